"""What a comparison means for each AccessGrant: counted, and said with the statement that somebody else would have to run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lakebase_operator.api.lakebase_connection import DriftAction, Mode
from lakebase_operator.api.objects import Privilege
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import PUBLIC, Declared, Desired
from lakebase_operator.domain.plan import MAX_ACL_ITEMS, Difference, Origin
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.external.postgres.grants import Comparison, Conflict, Failure, HeldOtherwise
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import Deviation, Tally

GROUP_ADVICE = "Grant to one group role instead, and make the others its members."

Errors: TypeAlias = Mapping[tuple[ObjectName, str, Privilege], Failure]
"""By object, grantee and privilege."""


@dataclass(slots=True)
class Telling:
    """Fills the tallies of one database."""

    database: str
    roles: Roles
    declared: Sequence[Declared]
    desired: Desired
    tallies: Mapping[str, Tally]
    """By uid of the AccessGrant."""
    drift: DriftAction
    mode: Mode
    may_revoke: bool
    refused: Sequence[Difference]
    """What an ACL has no room for."""
    planned: frozenset[Difference]
    """What would be done if the plan were approved."""
    connect: str | None
    """The statement that gives the operator a CONNECT of its own on the database; None: it has one."""

    def tell(
        self, first: Comparison, last: Comparison, failures: Sequence[Failure]
    ) -> tuple[Difference, ...]:
        """Fill the tallies.

        Parameters
        ----------
        first, last
            The comparisons before and after the changes.
        failures
            Of the changes.

        Returns
        -------
        What should be gone, is not, and needs a person.
        """
        self._count(last)
        granting, revoking = _errors(failures, Verb.GRANT), _errors(failures, Verb.REVOKE)
        for difference in last.differences:
            if difference.verb is Verb.GRANT:
                for item in self._concerned(difference):
                    self._tell_missing(item, difference, granting)
            elif difference.origin is Origin.FORBIDDEN:
                for item in self._concerned(difference):
                    self._tell_forbidden(item, difference, revoking)
        for difference in self.refused:
            for item in self._concerned(difference):
                self._tell_refused(item, difference)
        self._tell_objects(last)
        return self._tell_undeclared(first, last, revoking)

    # -- counting ------------------------------------------------------------------------------------------------

    def _count(self, last: Comparison) -> None:
        for count, items in zip(last.counts, self.desired.declared_by, strict=True):
            for item in items:
                tally = self._tally(item)
                tally.objects += count.objects
                tally.wanted += count.items * len(item.grantees)

    def _concerned(self, difference: Difference) -> Iterable[Declared]:
        """The AccessGrants that declare it, once each."""
        found = {
            item.grant.metadata.uid: item
            for number in difference.selectors
            for item in self.desired.declared_by[number]
        }
        return found.values()

    def _tally(self, item: Declared) -> Tally:
        return self.tallies[item.grant.metadata.uid]

    # -- objects -------------------------------------------------------------------------------------------------

    def _tell_objects(self, last: Comparison) -> None:
        for number, thing in last.absent:
            for item in self.desired.declared_by[number]:
                self._tell_absent(item, thing, self.desired.selectors[number].snapshot is not None)
        for number, thing in last.read_only:
            for item in self.desired.declared_by[number]:
                self._tally(item).issue(
                    Reason.READ_ONLY_RELATION,
                    str(thing),
                    "Only SELECT is given. For writing through an updatable view, name it exactly in names.",
                )
        for conflict in last.conflicts:
            names = {self._name(oid) for oid in conflict.grantees}
            for number in dict.fromkeys(conflict.selectors):
                for item in self.desired.declared_by[number]:
                    for name in sorted(names & item.grantees):
                        self._tell_conflict(item, conflict, name)
        for held in last.otherwise:
            for number in held.selectors:
                for item in self.desired.declared_by[number]:
                    self._tell_held_otherwise(item, held, self.desired.selectors[number].grant_option)
        for large in last.large:
            for number in large.selectors:
                for item in self.desired.declared_by[number]:
                    fix = f"Its ACL has {large.entries} entries, which makes every change of it slow. {GROUP_ADVICE}"
                    self._tally(item).issue(Reason.ACL_LARGE, str(large.object), fix)

    def _tell_absent(self, item: Declared, thing: ObjectName, snapshot: bool) -> None:
        tally = self._tally(item)
        if item.absent:
            return  # what is not there has no privileges
        if thing.object_class.is_default:
            what = f'The role "{thing.name}"'
        else:
            what = f"{thing.object_class.value.capitalize()} {thing}"
        if snapshot and thing.object_class is not ObjectClass.COLUMN:
            fix = "spec.newObjects is false, so what comes later is not granted: create it, then change the spec."
            tally.issue(Reason.OBJECT_MISSING, str(thing), fix)
            tally.blame(
                Reason.OBJECT_MISSING,
                f"{what} is not among what was in {self.database} when this version of the spec was first carried out. {fix}",
            )
            return
        tally.issue(
            Reason.OBJECT_MISSING,
            str(thing),
            "Create it, or correct the name; it is looked for at every sync.",
        )
        tally.blame(
            Reason.OBJECT_MISSING,
            f"{what} does not exist in {self.database}. It is granted as soon as it does.",
            waits=True,
        )

    def _tell_conflict(self, item: Declared, conflict: Conflict, name: str) -> None:
        tally, thing, privilege = self._tally(item), str(conflict.object), _privilege(conflict)
        if item.absent:
            fix = "Another AccessGrant gives it; that is without effect as long as this one holds."
        else:
            fix = "Another AccessGrant declares it absent, which counts. Change one of them."
            tally.missing += not conflict.implied and not conflict.grant_option
            tally.blame(
                Reason.CONFLICTING_DECLARATIONS,
                f"{privilege} on {thing} for {name} is declared absent by another AccessGrant, which counts. "
                "Change one of them; status.issues lists all.",
            )
        tally.issue(Reason.CONFLICTING_DECLARATIONS, thing, fix, role=name, privilege=privilege)

    def _tell_held_otherwise(self, item: Declared, held: HeldOtherwise, option_only: bool) -> None:
        """Declared absent, not granted here, and held nevertheless."""
        if held.grant_option and not option_only:
            return  # told of the privilege itself
        tally, thing, privilege = self._tally(item), str(held.object), _privilege(held)
        oids = set(held.grantees)
        for name in sorted(name for name in item.grantees if self._oid(name) in oids):
            if held.public:
                reason = Reason.HELD_THROUGH_PUBLIC
                statement = PrivilegeStatement(
                    Verb.REVOKE, (held.object,), (held.privilege,), (PUBLIC,), None, held.grant_option
                )
                fix = f"Everybody has it. Add the subject Public, or run: {statement}"
            elif held.object.object_class is ObjectClass.COLUMN:
                reason = Reason.HELD_OTHERWISE
                fix = f"It is held on the whole of {held.object.table}: declare its absence there, and grant other columns."
            else:
                reason = Reason.HELD_OTHERWISE
                fix = "It comes from the default privileges for all schemas: leave schema out."
            tally.remaining += 1
            tally.issue(reason, thing, fix, role=name, privilege=privilege)
            tally.blame(reason, f"{name} has {privilege} on {thing} in another way. {fix}")

    # -- what is missing -----------------------------------------------------------------------------------------

    def _tell_missing(self, item: Declared, difference: Difference, errors: Errors) -> None:
        concerned = self._among(item, difference)
        if not concerned or (difference.implied and difference.public):
            return  # everybody has it through PUBLIC, so what was asked for is usable
        tally = self._tally(item)
        if self._is_for_all_creators(difference):
            self._tell_uncovered(tally, difference, len(concerned))
            return
        if not difference.implied and not difference.grant_option:
            tally.missing += len(concerned)
        owner = self._name(difference.owner)
        for name in concerned:
            thing, privilege = str(difference.object), _privilege(difference)
            statement = statement_for(Verb.GRANT, difference, name)
            failure = errors.get((difference.object, name, difference.privilege))
            if failure is not None:
                message = f"{statement} failed: {failure.error}"
                tally.issue(failure.reason, thing, message, role=name, privilege=privilege)
                tally.blame(failure.reason, f"{message}.", waits=failure.may_pass)
            elif self._is_refused(difference, name):
                continue  # told as such
            elif self._drifted(difference, name):
                fix = f"Run {statement}, or set drift.action: Repair."
                tally.issue(Reason.DRIFT_FOUND, thing, fix, role=name, privilege=privilege)
                tally.blame(
                    Reason.DRIFT_FOUND,
                    f"{privilege} on {thing} was taken from {name} by hand, and drift.action is Report.",
                )
            elif difference in self.planned:
                tally.blame(Reason.PLANNED, _PLANNED, waits=True)
            else:
                fix = f"As {owner} run: {statement}"
                tally.issue(Reason.UNGRANTABLE, thing, fix, role=name, privilege=privilege)
                tally.blame(
                    Reason.UNGRANTABLE,
                    f'The operator has no grant option for {privilege} on {thing}, which "{owner}" owns. '
                    f"Its owner must run: {statement}; status.issues lists them all.",
                )

    def _is_for_all_creators(self, difference: Difference) -> bool:
        return difference.object.object_class.is_default and all(
            self.desired.selectors[number].is_for_all_creators for number in difference.selectors
        )

    def _tell_uncovered(self, tally: Tally, difference: Difference, count: int) -> None:
        """A creator that the operator cannot act for: what it makes is granted at the next pass, not at its birth."""
        tally.wanted -= count
        creator = difference.object.name
        tally.issue(
            Reason.CREATOR_NOT_COVERED,
            str(difference.object),
            f'The operator cannot act for "{creator}". Make it a member, or run as "{creator}": '
            f"{statement_for(Verb.GRANT, difference, self._name(difference.grantees[0]))}",
            privilege=difference.privilege.value,
        )

    def _tell_refused(self, item: Declared, difference: Difference) -> None:
        tally = self._tally(item)
        for name in self._among(item, difference):
            fix = f"PostgreSQL cannot keep more than about {MAX_ACL_ITEMS} grantees of one relation. {GROUP_ADVICE}"
            thing, privilege = str(difference.object), _privilege(difference)
            tally.issue(Reason.ACL_FULL, thing, fix, role=name, privilege=privilege)
            tally.blame(Reason.ACL_FULL, f"{thing} has {difference.acl_items} grantees already. {fix}")

    # -- what should not be there --------------------------------------------------------------------------------

    def _tell_forbidden(self, item: Declared, difference: Difference, errors: Errors) -> None:
        concerned = self._among(item, difference)
        tally = self._tally(item)
        if not difference.grant_option or all(
            self.desired.selectors[number].grant_option for number in difference.selectors
        ):
            tally.remaining += len(concerned)
        for name in concerned:
            failure = errors.get((difference.object, name, difference.privilege))
            if self._drifted(difference, name):
                thing, privilege = str(difference.object), _privilege(difference)
                fix = f"Run {statement_for(Verb.REVOKE, difference, name)}, or set drift.action: Repair."
                tally.issue(Reason.DRIFT_FOUND, thing, fix, role=name, privilege=privilege)
                tally.blame(
                    Reason.DRIFT_FOUND,
                    f"{privilege} on {thing} was given to {name} by hand, and drift.action is Report.",
                )
            elif failure is None and difference in self.planned:
                tally.blame(Reason.PLANNED, _PLANNED, waits=True)
            else:
                self._tell_remaining(item, name, difference, failure)

    def _tell_undeclared(self, first: Comparison, last: Comparison, errors: Errors) -> tuple[Difference, ...]:
        remaining = tuple(one for one in last.differences if one.origin is Origin.UNDECLARED)
        if not self.may_revoke:
            for difference in remaining:
                for item, name in self._over(difference):
                    self._tally(item).blame(
                        Reason.PENDING,
                        f"{name} keeps {difference.privilege.value} on {difference.object} until every declaration can "
                        "be read again: one of them may declare the same.",
                        waits=True,
                    )
            return ()
        if self.mode is Mode.PLAN and self.planned:
            for difference in remaining:
                for item, _ in self._over(difference):
                    self._tally(item).blame(Reason.PLANNED, _PLANNED, waits=True)
            return ()
        stuck = []
        for difference in remaining:
            found = [
                errors.get((difference.object, self._name(oid), difference.privilege))
                for oid in difference.grantees
            ]
            if not all(failure is not None and failure.may_pass for failure in found):
                stuck.append(difference)
            for item, name in self._over(difference):
                failure = errors.get((difference.object, name, difference.privilege))
                self._tell_remaining(item, name, difference, failure)
        for difference in first.differences:
            if difference.origin is Origin.UNDECLARED and difference not in remaining:
                for item, name in self._over(difference):
                    self._tell_still_held(item, name, difference)
        return tuple(stuck)

    def _over(self, difference: Difference) -> Iterable[tuple[Declared, str]]:
        """AccessGrants that give nothing any more and may have given this, with the grantees concerned."""
        for item in self.declared:
            if not item.active and same_place(item, difference.object, self.database):
                for name in self._among(item, difference):
                    yield item, name

    def _tell_remaining(
        self, item: Declared, name: str, difference: Difference, failure: Failure | None
    ) -> None:
        tally = self._tally(item)
        thing, privilege = str(difference.object), _privilege(difference)
        statement = statement_for(Verb.REVOKE, difference, name)
        if failure is not None:
            message = f"{statement} failed: {failure.error}"
            tally.issue(failure.reason, thing, message, role=name, privilege=privilege)
            tally.blame(failure.reason, f"{message}.", waits=failure.may_pass)
            return
        if self.connect is not None and name == PUBLIC and is_connect(difference, self.database):
            fix = f"The operator would lock itself out: it has CONNECT through PUBLIC only. Run first: {self.connect}"
            tally.issue(Reason.WOULD_LOCK_OUT, thing, fix, role=name, privilege=privilege)
            tally.blame(Reason.WOULD_LOCK_OUT, fix)
            return
        who = self._quoted((difference.grantor or 0,))
        fix = f"Granted by {who}, who must run: {statement}"
        tally.issue(Reason.UNREVOCABLE, thing, fix, role=name, privilege=privilege)
        tally.blame(
            Reason.UNREVOCABLE,
            f"{privilege} on {thing} was granted to {name} by {who}, for whom the operator cannot act. "
            f"{who} must run: {statement}",
        )

    def _tell_still_held(self, item: Declared, name: str, difference: Difference) -> None:
        """The operator's grant is gone, and the grantee has the privilege in another way."""
        tally = self._tally(item)
        thing, privilege = str(difference.object), _privilege(difference)
        if difference.others:
            who = self._quoted(difference.others)
            fix = f"Granted by {who}, who must run: {statement_for(Verb.REVOKE, difference, name)}"
            tally.issue(Reason.UNREVOCABLE, thing, fix, role=name, privilege=privilege)
        elif difference.public and name != PUBLIC and difference.object.object_class is ObjectClass.TABLE:
            fix = f"Everybody has it. To end that, run: {statement_for(Verb.REVOKE, difference, PUBLIC)}"
            tally.issue(Reason.HELD_THROUGH_PUBLIC, thing, fix, role=name, privilege=privilege)

    # -- small things --------------------------------------------------------------------------------------------

    def _among(self, item: Declared, difference: Difference) -> list[str]:
        """Grantees of the AccessGrant that the difference is about."""
        oids = set(difference.grantees)
        return [name for name in sorted(item.grantees) if self._oid(name) in oids]

    def _drifted(self, difference: Difference, name: str) -> bool:
        return self.drift is DriftAction.REPORT and self._oid(name) in difference.drifted

    def _is_refused(self, difference: Difference, name: str) -> bool:
        return any(
            one.object == difference.object
            and one.privilege == difference.privilege
            and self._oid(name) in one.grantees
            for one in self.refused
        )

    def _quoted(self, oids: Iterable[int]) -> str:
        return ", ".join(f'"{self._name(oid)}"' for oid in oids)

    def _name(self, oid: int) -> str:
        return self.roles.name_of(oid) or str(oid)

    def _oid(self, name: str) -> int | None:
        return 0 if name == PUBLIC else self.roles.oids.get(name)


_PLANNED = (
    "The LakebaseConnection is in mode Plan: its status has the statements and their digest to approve."
)


def deviations(differences: Iterable[Difference], roles: Roles, *, drifted: bool) -> Iterable[Deviation]:
    """Differences one by one, for people.

    Parameters
    ----------
    differences
        From a comparison.
    roles
        For their names.
    drifted
        Only what was as declared before.
    """
    for one in differences:
        for oid in one.drifted if drifted else one.grantees:
            grantor = roles.name_of(one.grantor) if one.grantor is not None else None
            yield Deviation(
                one.origin, str(one.object), roles.name_of(oid) or str(oid), _privilege(one), grantor
            )


def same_place(item: Declared, thing: ObjectName, database: str) -> bool:
    """Whether an AccessGrant can have spoken of an object."""
    if thing.object_class.is_shared:
        return item.grant.spec.database in (database, thing.name) or any(
            selector.object_class is thing.object_class for selector in item.selectors
        )
    return item.grant.spec.database == database and any(
        selector.schema is None or thing.schema is None or selector.schema == thing.schema
        for selector in item.selectors
    )


def is_connect(difference: Difference, database: str) -> bool:
    """Whether it is about taking CONNECT on this database."""
    thing = difference.object
    return (
        difference.verb is Verb.REVOKE
        and not difference.grant_option
        and (thing.object_class, thing.name) == (ObjectClass.DATABASE, database)
        and difference.privilege is Privilege.CONNECT
    )


def statement_for(verb: Verb, difference: Difference, grantee: str) -> str:
    """What a person would have to run."""
    return str(
        PrivilegeStatement(
            verb, (difference.object,), (difference.privilege,), (grantee,), None, difference.grant_option
        )
    )


def _privilege(difference: Difference | Conflict | HeldOtherwise) -> str:
    return difference.privilege.value + (" WITH GRANT OPTION" if difference.grant_option else "")


def _errors(failures: Iterable[Failure], verb: Verb) -> Errors:
    return {
        (thing, grantee, privilege): failure
        for failure in failures
        if failure.statement.verb is verb
        for thing in failure.statement.objects
        for grantee in failure.statement.grantees
        for privilege in failure.statement.privileges
    }
