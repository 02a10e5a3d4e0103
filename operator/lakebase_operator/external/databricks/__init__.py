"""Databricks: the only code of the operator that touches its SDK, whose types do not leave this package."""

from .auth import Auth, OAuthM2M, WorkloadIdentity
from .catalogs import CatalogApi, RegisteredCatalog
from .hostname import recognized
from .instances import LakebaseApi, Progress
from .questions import IdentityKind
from .roles import RoleApi
from .targets import AutoscalingTarget, ProvisionedTarget, Target
from .trust import honour_ssl_cert_file
from .workspace import ControlPlane, Identity, Workspace

__all__ = [
    "Auth",
    "AutoscalingTarget",
    "CatalogApi",
    "ControlPlane",
    "Identity",
    "IdentityKind",
    "LakebaseApi",
    "OAuthM2M",
    "Progress",
    "ProvisionedTarget",
    "RegisteredCatalog",
    "RoleApi",
    "Target",
    "WorkloadIdentity",
    "Workspace",
    "honour_ssl_cert_file",
    "recognized",
]
