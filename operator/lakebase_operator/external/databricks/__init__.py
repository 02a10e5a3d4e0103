"""Databricks: the only code of the operator that touches its SDK, whose types do not leave this package."""

from .auth import Auth, OAuthM2M, WorkloadIdentity
from .hostname import recognized
from .questions import IdentityKind
from .targets import AutoscalingTarget, ProvisionedTarget, Target
from .trust import honour_ssl_cert_file
from .workspace import ControlPlane, Identity, Workspace

__all__ = [
    "Auth",
    "AutoscalingTarget",
    "ControlPlane",
    "Identity",
    "IdentityKind",
    "OAuthM2M",
    "ProvisionedTarget",
    "Target",
    "WorkloadIdentity",
    "Workspace",
    "honour_ssl_cert_file",
    "recognized",
]
