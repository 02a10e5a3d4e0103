"""The verdict on each AccessGrant, from what was found of it."""

from datetime import datetime

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import Declared
from lakebase_operator.domain.people import unmapped
from lakebase_operator.domain.privileges import DEFAULT_CLASSES, class_supported, supported
from lakebase_operator.domain.status import condition
from lakebase_operator.domain.wording import counted
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.tally import Tally


def conclude(item: Declared, tally: Tally, now: datetime, report: Report) -> None:
    """The verdict on one AccessGrant that is not being deleted."""
    grant, spec = item.grant, item.grant.spec
    held = tally.remaining if item.absent else tally.wanted - tally.missing
    fields: dict[str, object] = {
        "subjects": [
            {"name": name, "role": found.role, "state": found.state.value}
            for name, found in list(item.subjects.items())[:512]
        ],
        "objects": tally.objects,
        "grants": {"wanted": 0 if item.absent else tally.wanted, "held": held},
        "issues": tally.issues,
        "expiresAt": spec.expires_at,
    }
    report.fields(grant, fields)
    nobody = unmapped(
        {name: found for name, found in item.subjects.items() if found.state is not Reason.NO_ACCOUNT}
    )
    if not item.active:
        _conclude_inactive(grant, tally, now, report)
    elif tally.worst is not None:
        say = report.waiting if tally.waits else report.stalled
        say(grant, *tally.worst)
    elif nobody:
        first = item.subjects[nobody[0]]
        stalled = first.state in (Reason.AMBIGUOUS, Reason.RESERVED_NAME)
        reason = first.state if stalled or first.state is Reason.ROLE_MISSING else Reason.UNMAPPED_USERS
        say = report.stalled if stalled else report.waiting
        say(grant, reason, f"{', '.join(nobody[:10])}: {first.message}")
    elif tally.objects == 0:
        report.ready(grant, Reason.NO_OBJECTS, "Nothing in the database matches spec.objects now.")
    elif item.absent:
        report.ready(grant, Reason.SUCCEEDED, f"Not held, as read back from the database: {_extent(tally)}.")
    else:
        report.ready(grant, Reason.SUCCEEDED, f"Held, as read back from the database: {_extent(tally)}.")
    report.fact(
        grant,
        condition(
            "UnmappedUsers",
            bool(nobody),
            Reason.UNMAPPED_USERS if nobody else Reason.ALL_MAPPED,
            f"Without a role: {', '.join(nobody[:50])}." if nobody else "",
        ),
    )


def _extent(tally: Tally) -> str:
    privileges = counted(tally.wanted, "privilege", "privileges")
    return f"{privileges} on {counted(tally.objects, 'object', 'objects')}"


def _conclude_inactive(grant: AccessGrant, tally: Tally, now: datetime, report: Report) -> None:
    spec = grant.spec
    if tally.worst is not None:
        say = report.waiting if tally.waits else report.stalled
        say(grant, *tally.worst)
    elif spec.suspend:
        report.ready(grant, Reason.SUSPENDED, "spec.suspend is set: nothing is held.")
    elif spec.expires_at is not None and spec.expires_at <= now:
        report.ready(grant, Reason.EXPIRED, f"Ended at {spec.expires_at.isoformat()}: nothing is held.")
    else:
        begins = spec.not_before.isoformat() if spec.not_before else ""
        report.ready(grant, Reason.NOT_YET_ACTIVE, f"Begins at {begins}: nothing is held until then.")


def unsupported(grant: AccessGrant, major_version: int, tally: Tally) -> None:
    """Tell of what this version of the server does not know."""
    unknown = [
        f"spec.privileges: PostgreSQL {major_version} does not know {privilege.value}."
        for privilege in grant.spec.privileges or ()
        if not supported(privilege, major_version)
    ]
    unknown += [
        f"spec.objects: PostgreSQL {major_version} knows no default privileges of {entry.default_privileges.object_type.value}."
        for entry in grant.spec.objects
        if entry.default_privileges is not None
        and not class_supported(DEFAULT_CLASSES[entry.default_privileges.object_type], major_version)
    ]
    for message in unknown:
        tally.issue(Reason.INVALID_SPEC, "*", f"{message} Leave it out.")
        tally.blame(Reason.INVALID_SPEC, f"{message} Leave it out.")
