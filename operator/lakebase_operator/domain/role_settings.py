"""Session defaults of roles: what is declared, what is there, and the statements between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lakebase_operator.api.lakebase_connection import UnmanagedAction
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.role_statements import (
    parameter_values,
    reset_role_parameter,
    set_role_parameter,
)
from lakebase_operator.domain.roles import Issue, Step


@dataclass(frozen=True, slots=True)
class SettingsPlan:
    """What makes the settings of one role, everywhere or in one database, as declared."""

    steps: tuple[Step, ...] = ()
    """Each ``about`` one setting, by its name in lower case."""
    unmanaged: tuple[Issue, ...] = ()
    """What nobody declares and is only to be reported."""

    def ours(self, wanted: Iterable[str], before: Iterable[str], failed: Iterable[str]) -> tuple[str, ...]:
        """What the ledger is to say once the steps are taken, but for those that failed."""
        missed = set(failed)
        known = {name.lower(): name for name in before}
        declared = {name.lower(): name for name in wanted}
        kept = {key: name for key, name in declared.items() if key not in missed or key in known}
        left = {key: name for key, name in known.items() if key not in declared and key in missed}
        return tuple(sorted((kept | left).values()))


def settings_change(
    name: str,
    wanted: Mapping[str, str],
    actual: Mapping[str, str],
    ours: Iterable[str],
    *,
    unmanaged: UnmanagedAction = UnmanagedAction.KEEP,
    database: str | None = None,
) -> SettingsPlan:
    """Set what differs, reset what was ours and is no longer declared, treat the rest as ``unmanaged`` says.

    Parameters
    ----------
    name
        The role.
    wanted, actual
        Values by parameter; case does not count in parameters.
    ours
        Parameters that a declaration has set.
    unmanaged
        What happens to those that nobody declares.
    database
        The settings hold in this database only; None: everywhere.
    """
    where = f"role {name}" if database is None else f"role {name} in database {database}"
    there = {key.lower(): value for key, value in actual.items()}
    declared = {key.lower() for key in wanted}
    known = {key.lower() for key in ours}
    left = sorted(set(there) - declared)
    steps = [
        Step(reset_role_parameter(name, key, database), f"resetting {key} of {where}", about=key)
        for key in left
        if key in known or unmanaged is UnmanagedAction.REVOKE
    ]
    steps += [
        Step(
            set_role_parameter(name, key, value, database),
            f"setting {key} of {where}",
            about=key.lower(),
        )
        for key, value in sorted(wanted.items())
        if key.lower() not in there
        or parameter_values(key, there[key.lower()]) != parameter_values(key, value)
    ]
    reported = [
        Issue(
            setting_name(key, database),
            Reason.UNMANAGED,
            f"Declare it, or run: {reset_role_parameter(name, key, database).as_string(None)}",
        )
        for key in left
        if key not in known and unmanaged is UnmanagedAction.REPORT
    ]
    return SettingsPlan(tuple(steps), tuple(reported))


def setting_name(parameter: str, database: str | None) -> str:
    """As ``status.issues`` names a setting."""
    return f"setting {parameter}" + (f" in database {database}" if database is not None else "")
