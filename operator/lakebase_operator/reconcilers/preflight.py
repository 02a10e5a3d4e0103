"""Before anything is changed: does the operator's login have what it needs? What is missing is named at once."""

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.domain.status import condition
from lakebase_operator.external.postgres.ledger import VERSION
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.reconcilers.report import Report

MIN_VERSION = 16
"""The first with memberships that carry INHERIT and SET, and CREATEROLE that is not a superuser in disguise."""


def check(connection: LakebaseConnection, found: Preflight, report: Report, *, home: bool) -> None:
    """Compare what the login has with what the operator needs.

    Raises
    ------
    InvalidError
        Something is missing; the message has the statement that gives it.
    """
    missing = problem(found, home=home)
    if missing is None:
        message = f'"{found.role}" has all that it needs.'
        report.fact(connection, condition("PrivilegesSufficient", True, Reason.SUFFICIENT, message))
        return
    report.fact(connection, condition("PrivilegesSufficient", False, missing.reason, missing.message))
    raise missing


def problem(found: Preflight, *, home: bool) -> InvalidError | None:
    """What keeps the operator from working in a database, if anything does."""
    role = f'"{found.role}"'
    if found.major_version < MIN_VERSION:
        return InvalidError(
            Reason.UNSUPPORTED_SERVER_VERSION,
            f"The server is PostgreSQL {found.version}; {MIN_VERSION} or later is needed.",
        )
    if found.read_only:
        return InvalidError(
            Reason.READ_ONLY_ENDPOINT,
            f"{found.database} accepts reads only here. Point the connection at the read-write endpoint.",
        )
    if home and not found.superuser:
        if found.is_lakebase and not found.databricks_superuser:
            return InvalidError(
                Reason.MISSING_DATABRICKS_SUPERUSER,
                f"{role} is not a member of databricks_superuser. Give it that membership through the Lakebase roles API "
                "or its user interface (SQL cannot grant it).",
            )
        if not found.create_role:
            return InvalidError(
                Reason.MISSING_CREATE_ROLE,
                f"{role} itself lacks CREATEROLE (a membership does not count). "
                f"Run as an administrator: ALTER ROLE {role} CREATEROLE",
            )
    if not found.ledger and not found.create_on_database:
        return InvalidError(
            Reason.MISSING_CREATE_ON_DATABASE,
            f"{role} cannot create its ledger in {found.database}. "
            f'Run as its owner: GRANT CREATE ON DATABASE "{found.database}" TO {role}',
        )
    if found.ledger and found.ledger_owner != found.role and not found.superuser:
        return InvalidError(
            Reason.LEDGER_UNUSABLE,
            f'The schema lakebase_operator in {found.database} belongs to "{found.ledger_owner}", not to {role}. '
            "Use the same identity for every connection to this database, or drop the schema (nothing is revoked by that).",
        )
    if found.ledger_version is not None and found.ledger_version > VERSION:
        return InvalidError(
            Reason.LEDGER_UNUSABLE,
            f"The ledger in {found.database} has version {found.ledger_version}, written by a newer operator; this one knows "
            f"versions up to {VERSION}. Upgrade this operator. Until then nothing is changed.",
        )
    return None


def tell_login(
    connection: LakebaseConnection, found: Preflight, principal: bool | None, report: Report
) -> None:
    """Conditions and fields about who the operator is here."""
    warning = principal is False
    report.fact(
        connection,
        condition(
            "Authenticated",
            True,
            Reason.NOT_A_SERVICE_PRINCIPAL if warning else Reason.AUTHENTICATED,
            f'Logged in as "{found.role}"'
            + (
                ", which is a person's account: access would stop with it. Use a service principal."
                if warning
                else "."
            ),
        ),
    )
    report.fields(connection, {"serverVersion": found.version, "operatorRole": found.role})
