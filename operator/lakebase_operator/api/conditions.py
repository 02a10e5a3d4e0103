"""Every condition type that a status may carry, and which kind has which.

The docstring below a member is its entry in the reference of the kinds.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """Sums up: what is declared is so in the database, read back and found there."""
    RECONCILING = "Reconciling"
    """Work is under way or waits for something that comes by itself. Present only while true."""
    STALLED = "Stalled"
    """Nothing more happens until somebody changes something; `Ready` says what. Present only while true."""
    INSTANCE_AVAILABLE = "InstanceAvailable"
    """The database accepts connections: it is neither stopped nor disabled."""
    HOST_RECOGNIZED = "HostRecognized"
    """The host has one of the forms that Databricks uses. False is only a warning."""
    AUTHENTICATED = "Authenticated"
    """The operator can log in."""
    PRIVILEGES_SUFFICIENT = "PrivilegesSufficient"
    """The operator's role has what it needs to manage roles and grants."""
    SYNCED = "Synced"
    """The last full comparison with the database ended well, and all that it found is carried out."""
    DRIFTED = "Drifted"
    """Something was changed by hand, and was put back or reported, as `drift.action` says."""
    UNMANAGED_GRANTS = "UnmanagedGrants"
    """Privileges are held that nobody declares. Only where `unmanagedGrants` looks for them."""
    PUBLIC_ACCESS = "PublicAccess"
    """PUBLIC, that is everybody who can log in, holds privileges in a managed database; the message lists them. Only for
    information: PostgreSQL itself gives PUBLIC some, such as CONNECT."""
    ACCESS_REVIEWED = "AccessReviewed"
    """The access report was made in time; `status.report` has it. Its reason says whether roles have more than is declared."""
    QUERY_AUDIT_AVAILABLE = "QueryAuditAvailable"
    """The server keeps a record of queries (pgaudit), as far as the operator's role may see. Only for information."""
    OVER_PRIVILEGED = "OverPrivileged"
    """The role may do everything, as a superuser or a member of `databricks_superuser`. Only a warning."""
    MAPPING_RESOLVED = "MappingResolved"
    """It is known which role the person is, or that there is none on purpose."""
    UNMAPPED_USERS = "UnmappedUsers"
    """Some subjects have no role, so they hold nothing; `status.subjects` names them."""
    NATIVE_LOGIN = "NativeLogin"
    """Roles may log in with a PostgreSQL password: what the control plane says, not what was asked for."""
    SETTINGS_APPLIED = "SettingsApplied"
    """Every declared setting holds; `status.settings` shows what is wanted beside what holds."""
    BRANCH_GRANTS = "BranchGrants"
    """What becomes of roles and grants on the branches: false says that some were copied and nothing keeps them equal."""
    CREDENTIAL_FRESH = "CredentialFresh"
    """The password is younger than its rotation asks for; `status.password` has the dates. Only where the role has a password."""
    CATALOG_REGISTERED = "CatalogRegistered"
    """Unity Catalog has the catalog, and it shows this database."""


_EVERYWHERE: Final = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)

CONDITIONS: Final[Mapping[str, tuple[ConditionType, ...]]] = MappingProxyType(
    {
        "LakebaseConnection": (
            *_EVERYWHERE,
            ConditionType.INSTANCE_AVAILABLE,
            ConditionType.HOST_RECOGNIZED,
            ConditionType.AUTHENTICATED,
            ConditionType.PRIVILEGES_SUFFICIENT,
            ConditionType.SYNCED,
            ConditionType.DRIFTED,
            ConditionType.UNMANAGED_GRANTS,
            ConditionType.PUBLIC_ACCESS,
            ConditionType.ACCESS_REVIEWED,
            ConditionType.QUERY_AUDIT_AVAILABLE,
        ),
        "PostgresRole": (*_EVERYWHERE, ConditionType.OVER_PRIVILEGED, ConditionType.CREDENTIAL_FRESH),
        "UserMapping": (*_EVERYWHERE, ConditionType.MAPPING_RESOLVED),
        "AccessGrant": (*_EVERYWHERE, ConditionType.UNMAPPED_USERS),
        "LakebaseInstance": (
            *_EVERYWHERE,
            ConditionType.INSTANCE_AVAILABLE,
            ConditionType.HOST_RECOGNIZED,
            ConditionType.SETTINGS_APPLIED,
            ConditionType.NATIVE_LOGIN,
            ConditionType.BRANCH_GRANTS,
        ),
        "DatabaseCatalog": (*_EVERYWHERE, ConditionType.CATALOG_REGISTERED),
    }
)
"""Kind and the conditions that its status may carry."""
