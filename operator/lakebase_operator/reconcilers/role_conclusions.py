"""What is said of each PostgresRole in the end, once all that is declared of it has been looked at."""

from collections.abc import Mapping, Sequence

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.postgres_role import PlatformSchemaStatus
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.report import Report


def conclude_roles(
    roles: Roles,
    databases: Sequence[str],
    failures: Mapping[str, LakebaseError],
    report: Report,
    *,
    narrow: bool = False,
) -> None:
    """Say how it stands with all roles that are declared, after all databases.

    Parameters
    ----------
    roles
        The roles of the pass.
    databases
        The connection's, the home first.
    failures
        Databases that could not be worked on.
    report
        Where it is said.
    narrow
        Only what AccessGrants concern was looked at: what was said of roles of which there is more stays.
    """
    for tally in roles.tallies.values():
        if tally.role.spec.owns:
            _tell_owned(tally, databases, failures, report)
        elif not narrow:
            report.fields(tally.role, {"owned": None})
        if not narrow:
            _tell_platform_schema(tally, databases, report)
        if not (narrow and tally.of_full_passes):
            conclude_role(tally, report)


def conclude_role(tally: RoleTally, report: Report) -> None:
    """Say how it stands with one."""
    role = tally.role
    report.fields(role, {"issues": tally.issues})
    if tally.worst is not None:
        say = report.waiting if tally.waits else report.stalled
        say(role, *tally.worst)
    elif role.spec.suspend:
        report.ready(
            role, Reason.SUSPENDED, f'Nobody can log in as "{role.role_name}", and nobody is logged in.'
        )
    else:
        report.ready(role, Reason.SUCCEEDED, f'The role "{role.role_name}" is as declared.')


def _tell_platform_schema(tally: RoleTally, databases: Sequence[str], report: Report) -> None:
    """What is not there to be looked at: a database that is not managed, and the schema that was declared before."""
    role = tally.role
    wanted, before = role.spec.platform_schema, role.status.platform_schema
    database = role.platform_database(databases)
    if wanted is None:
        report.fields(role, {"platformSchema": None})
        if before is not None:
            tell_left(role, before, report)
    elif database not in databases:
        tally.blame(
            Reason.DATABASE_NOT_MANAGED,
            f'spec.platformSchema: "{database}" is not one of the databases of the LakebaseConnection. '
            "Add it there, or correct it here.",
        )


def tell_left(role: PostgresRole, before: PlatformSchemaStatus, report: Report) -> None:
    """A schema that was the role's platform schema is that no more."""
    message = f'The schema "{before.name}" in {before.database} is not its platform schema any more, and is left as it is.'
    report.event(role, ObjectEvent("Normal", Reason.PLATFORM_SCHEMA_LEFT, message))


def _tell_owned(
    tally: RoleTally, databases: Sequence[str], failures: Mapping[str, LakebaseError], report: Report
) -> None:
    for entry in tally.role.spec.owns:
        database = entry.database or databases[0]
        if database not in databases:
            tally.blame(
                Reason.DATABASE_NOT_MANAGED,
                f'spec.owns: "{database}" is not one of the databases of the LakebaseConnection. '
                "Add it there, or correct it here.",
            )
        elif database in failures:
            tally.failed(failures[database])
    report.fields(tally.role, {"owned": tally.owned})
