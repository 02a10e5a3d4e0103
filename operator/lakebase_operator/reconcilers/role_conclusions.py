"""What is said of each PostgresRole in the end, once all that is declared of it has been looked at."""

from collections.abc import Mapping, Sequence

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.report import Report


def conclude_roles(
    roles: Roles,
    databases: Sequence[str],
    failures: Mapping[str, LakebaseError],
    report: Report,
    *,
    logins: bool = True,
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
    logins
        Whether logins and exposed tables were looked at. If not, what was said of roles that have them stays.
    """
    for name, tally in roles.tallies.items():
        if tally.role.spec.owns:
            _tell_owned(tally, databases, failures, report)
        if logins or not (name in roles.logins or tally.role.spec.exposes):
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
