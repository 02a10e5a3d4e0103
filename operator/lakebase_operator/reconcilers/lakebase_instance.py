"""One look at a LakebaseInstance: follow what is under way, compare, ask for the next change, say so. It never waits."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakebase_operator.api import LakebaseInstance
from lakebase_operator.api.durations import seconds
from lakebase_operator.api.lakebase_instance import (
    BranchGrants,
    Create,
    InstanceDeletionPolicy,
)
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import lakebase_instance as domain
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError, was_refused
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.lakebase_instance import (
    CreateStep,
    DeleteStep,
    Found,
    Observation,
    Resource,
    Setting,
    Step,
    UpdateStep,
    Wanted,
)
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.relations import connections_of
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.databricks import LakebaseApi
from lakebase_operator.reconcilers import instance as instances
from lakebase_operator.reconcilers.instance_description import describe, loose_branches, some
from lakebase_operator.reconcilers.instance_ref import native_logins
from lakebase_operator.reconcilers.object_look import (
    LONGEST_PAUSE,
    SLOW_RETRY,
    ObjectLook,
    ObjectLooks,
    ObjectMemory,
)
from lakebase_operator.reconcilers.timing import Pauses, jittered
from lakebase_operator.reconcilers.view import is_abandoned, is_deleting, is_finalized
from lakebase_operator.reconcilers.writing import add_finalizers

MAX_REQUEST_IDS = 10

_OFF = (InstanceState.STOPPED, InstanceState.DISABLED)
_VERBS = {CreateStep: "Create", UpdateStep: "Update", DeleteStep: "Delete"}


@dataclass(slots=True, kw_only=True)
class Memory(ObjectMemory):
    """What is remembered of an instance."""

    repeats: Pauses
    """Before the same change is asked for again."""
    asked: UpdateStep | None = None
    ask_again_at: float = 0.0
    may_manage: bool = False


class LakebaseInstanceReconciler(ObjectLooks[LakebaseInstance, Memory]):
    """Looks at LakebaseInstances."""

    def _new_memory(self, uid: str) -> Memory:
        settings = self._services.settings
        base = settings.retry_base_seconds
        return Memory(
            uid=uid, pauses=Pauses(base, LONGEST_PAUSE), repeats=Pauses(base, settings.retry_cap_seconds)
        )

    def _new_look(self, subject: LakebaseInstance, memory: Memory) -> "Look":
        return Look(self._services, self._workspaces, subject, memory)


class Look(ObjectLook[LakebaseInstance, Memory]):
    """One look at one instance."""

    @property
    def main(self) -> Resource:
        """The project or instance."""
        return domain.main_resource(self.subject.spec)

    @property
    def thing(self) -> str:
        return str(self.main)

    async def run(self) -> Outcome:
        """Look, write the status, and wake the connections that waited."""
        before = _connectable(self._status())
        outcome = await super().run()
        if _connectable(self._status()) - before:
            self.services.wake(connections_of(self.services.catalog, key_of(self.subject)))
        return outcome

    async def _look(self) -> Outcome:
        older = self._older_namesake()
        if older is not None:
            self.report.stalled(
                self.subject,
                Reason.CONFLICTING_DECLARATIONS,
                f"The LakebaseInstance {older.metadata.namespace}/{older.metadata.name} declares the same {self.main}, and is "
                "older: it holds. Delete one of them.",
            )
            return Outcome(SLOW_RETRY)
        lakebase = await self._api()
        if not is_finalized(self.subject) and not await add_finalizers(self.services, [self.subject]):
            return Outcome()  # it is gone, or on its way: that brings another look
        if (outcome := await self._follow(lakebase)) is not None:
            return outcome
        declared = domain.wanted(self.subject.spec)
        found = await self._observed("observe", lakebase.observe(declared))
        self._claim(found)
        if self._is_another(found.get(self.main)):
            self._forget_made(set(self._made()))
        self._forget_made(domain.gone(declared, found, self._made()))
        self._refuse(declared, found)
        self._describe(declared, found)
        keep = self._keep_native_login(declared, found)
        step = domain.next_step(declared, found, made=self._made(), keep_native_login=bool(keep))
        if step is not None:
            return await self._carry_out(lakebase, step, found)
        return self._conclude(declared, found, keep)

    # -- before anything is asked for ----------------------------------------------------------------------------

    async def _api(self) -> LakebaseApi:
        spec = self.subject.spec
        secrets = await self._secrets(spec.auth)
        return self.workspaces.get(spec.workspace_url, spec.auth, secrets).lakebases()

    def _older_namesake(self) -> LakebaseInstance | None:
        """An older object that declares the same Lakebase."""
        url = self.subject.spec.workspace_url.rstrip("/").casefold()
        for other in self.services.catalog.of_kind(LakebaseInstance):
            if other.metadata.uid == self.subject.metadata.uid:
                return None
            same = domain.main_resource(other.spec) == self.main
            if same and other.spec.workspace_url.rstrip("/").casefold() == url and not is_deleting(other):
                return other
        return None

    async def _follow(self, lakebase: LakebaseApi) -> Outcome | None:
        """See how far the operation under way is. None: there is none any more.

        Raises
        ------
        LakebaseError
            It has failed; it is asked for anew at a later look.
        """
        operation = self._status().get("operation") or {}
        name = operation.get("name")
        if not name:
            return None
        progress = await self._observed("operation", lakebase.follow(name))
        if progress.done:
            self.fields["operation"] = None
            if progress.error is not None:
                if operation["action"] == "Create":
                    self._forget_made({operation["resource"]})
                raise progress.error
            return None
        creating = operation["action"] == "Create"
        since = datetime.fromisoformat(operation["startTime"])
        if creating and operation["resource"] == self.main.name:
            self.fields["startingSince"] = since
            return self._starting(since, f"{self.main} is being made.", [name])
        self.report.waiting(
            self.subject,
            Reason.PROGRESSING,
            f"Databricks carries out: {operation['action'].lower()} {operation['resource']}.",
        )
        return Outcome(self.memory.pauses.next())

    def _claim(self, found: Observation) -> None:
        """What was just being asked for when the operator ended, and is there now, is of its own making."""
        operation = self._status().get("operation") or {}
        asked = operation.get("resource")
        if asked and not operation.get("name") and any(one.name == asked for one in found):
            self._note_made(asked)
        self.fields["operation"] = None

    def _refuse(self, declared: Sequence[Wanted], found: Observation) -> None:
        """What cannot be carried out at all.

        Raises
        ------
        LakebaseError
            Why.
        """
        there = found.get(self.main)
        deleted = next(
            (one for one in declared if one.resource in found and found[one.resource].deleted), None
        )
        if deleted is not None:
            raise InvalidError(
                Reason.INSTANCE_NOT_FOUND,
                f"The {deleted.resource} is deleted. It can be brought back in Databricks for some days; until it is purged, "
                "its name cannot be used again.",
            )
        if there is not None and not self.subject.spec.adopt and self.main.name not in self._made():
            raise InvalidError(
                Reason.INSTANCE_EXISTS,
                f"The {self.main} exists already. Set spec.adopt: true to take it over, or name another one.",
            )
        problem = domain.problem(declared, found)
        if problem is not None:
            raise InvalidError(Reason.INVALID_SPEC, problem)
        if self.subject.spec.create is Create.NEVER:
            missing = next((one.resource for one in declared if one.resource not in found), None)
            if missing is not None:
                self._describe(declared, found)
                raise NotReadyError(
                    Reason.INSTANCE_NOT_FOUND,
                    f"There is no {missing}, or the operator's service principal may not see it, and spec.create is Never. "
                    "It is taken over when it appears.",
                )

    # -- asking for a change -------------------------------------------------------------------------------------

    async def _carry_out(self, lakebase: LakebaseApi, step: Step, found: Observation) -> Outcome:
        now = self.services.clock.monotonic()
        if isinstance(step, UpdateStep) and step == self.memory.asked and now < self.memory.ask_again_at:
            self._say_not_effective(step)
            return Outcome(self.memory.ask_again_at - now)
        if self.main in found:
            await self._check_rights(lakebase)
        operation = self._operation(_VERBS[type(step)], step.resource.name)
        if isinstance(step, CreateStep):
            await self._announce(operation, f"Asks Databricks: make {step.resource.name}.")
        if step != self.memory.asked:
            self.memory.repeats.reset()
        name = await self._ask(lakebase, step)
        self.memory.pauses.reset()  # not before: what is refused is asked for with growing pauses
        if isinstance(step, CreateStep):
            self._note_made(step.resource.name)
        if isinstance(step, UpdateStep):
            again = step == self.memory.asked
            self.memory.asked = step
            self.memory.ask_again_at = now + self.memory.repeats.next()
            if again:
                self._say_not_effective(step)
        self.fields["operation"] = operation | {"name": name} if name else None
        made = isinstance(step, CreateStep) and step.resource == self.main
        if made:
            self.fields["startingSince"] = operation["startTime"]
        self.report.waiting(
            self.subject,
            Reason.INSTANCE_STARTING if made else Reason.PROGRESSING,
            f"Asked Databricks: {domain.words(step)}.",
        )
        return Outcome(self.memory.pauses.next())

    async def _ask(self, lakebase: LakebaseApi, step: Step) -> str | None:
        try:
            return await self._observed(_VERBS[type(step)].lower(), lakebase.carry_out(step))
        except LakebaseError as error:
            if was_refused(error):
                # Nothing of ours comes of it, and what is there later is somebody else's.
                self.fields["operation"] = None
            raise

    async def _check_rights(self, lakebase: LakebaseApi) -> None:
        """Before the first change of something that exists.

        Raises
        ------
        InvalidError
            The operator may not change it, and nothing has been changed.
        """
        if self.memory.may_manage:
            return
        if await self._observed("permissions", lakebase.may_manage(self.main)) is False:
            raise InvalidError(
                Reason.CONTROL_PLANE_DENIED,
                f"The operator's service principal needs CAN_MANAGE on {self.main} to change it, and has less. "
                "Nothing has been changed.",
            )
        self.memory.may_manage = True

    def _say_not_effective(self, step: UpdateStep) -> None:
        self.report.waiting(
            self.subject,
            Reason.SETTING_NOT_EFFECTIVE,
            f"Databricks was asked to {domain.words(step)}, and says that it is not so yet. It is asked again with growing pauses.",
        )

    # -- the verdict ---------------------------------------------------------------------------------------------

    def _describe(self, declared: Sequence[Wanted], found: Observation) -> None:
        """Fields and conditions that show what the control plane says."""
        created = self.main.name in self._made() if self.main in found else None
        shown = describe(self.subject, declared, found, self.services.catalog)
        self.fields |= {**shown.fields, "created": created, "requestIDs": None}
        for one in shown.conditions:
            self.report.fact(self.subject, one)

    def _keep_native_login(self, declared: Sequence[Wanted], found: Observation) -> tuple[str, ...]:
        """Who needs native login, where it is declared to be switched off and still is on."""
        there = found.get(self.main)
        wanted = next(one for one in declared if one.resource == self.main)
        if there is None or domain.differences(wanted, there).get(Setting.NATIVE_LOGIN) is not False:
            return ()
        return native_logins(self.subject, self.services.catalog)

    def _conclude(
        self, declared: Sequence[Wanted], found: Observation, native_logins: Sequence[str]
    ) -> Outcome:
        """The verdict when there is nothing to ask for now."""
        serving = {
            one.resource: instance
            for one in declared
            if one.resource in found and (instance := found[one.resource].instance) is not None
        }
        main = serving.get(domain.database_resource(self.subject.spec))
        starting = main is not None and main.state is InstanceState.STARTING
        since = self._starting_since() if starting else None
        self.fields["startingSince"] = since
        if since is not None:
            return self._starting(since, "The instance is starting.", [])
        down = [
            (resource, one)
            for resource, one in serving.items()
            if not one.state.connectable and one.state not in _OFF
        ]
        if down:
            resource, state = down[0]
            reason, message = instances.explain(state)
            self.report.waiting(self.subject, reason, f"{resource}: {message}")
            return Outcome(self.memory.pauses.next())
        differs = [
            setting
            for one in declared
            if one.resource in found
            for setting in domain.differences(one, found[one.resource])
            if not (native_logins and setting is Setting.NATIVE_LOGIN)
        ]
        if differs or any(one.resource not in found for one in declared):
            self.report.waiting(self.subject, Reason.PROGRESSING, "Databricks carries out an earlier change.")
            return Outcome(self.memory.pauses.next())
        self.memory.pauses.reset()
        self.memory.asked = None
        if native_logins:
            self.report.stalled(
                self.subject,
                Reason.NATIVE_LOGIN_IN_USE,
                f"spec.nativeLogin is false, but {some(native_logins)} would not be able to log in any more: it is left on. "
                "Take these away first.",
            )
            return Outcome(SLOW_RETRY)
        if unmanaged := loose_branches(self.subject, self.services.catalog, BranchGrants.MANAGED):
            self.report.waiting(
                self.subject,
                Reason.BRANCH_NOT_MANAGED,
                f"The branch {some(unmanaged)} asks for grants: Managed, and no LakebaseConnection points at it: make one.",
            )
            return Outcome(SLOW_RETRY)
        self.report.ready(self.subject, Reason.SUCCEEDED, self._all_is_well(main))
        return Outcome(jittered(self.services.settings.instance_poll_seconds))

    def _all_is_well(self, main: Instance | None) -> str:
        assert main is not None
        if main.state in _OFF:
            return (
                "As declared: it is switched off."
                if self.subject.spec.stopped
                else "As declared. Somebody has switched it off, which spec.stopped leaves to others."
            )
        if main.state is InstanceState.ASLEEP:
            return (
                f"As declared. The compute of {main.host} is scaled to zero and wakes on the next connection."
            )
        return f"As declared. The database accepts connections at {main.host}."

    def _starting_since(self) -> datetime:
        since = self._status().get("startingSince")
        return datetime.fromisoformat(since) if since else self.services.clock.now()

    def _starting(self, since: datetime, message: str, ids: Sequence[str]) -> Outcome:
        """It is starting, perhaps for too long."""
        limit = seconds(self.subject.spec.start_timeout)
        left = limit - (self.services.clock.now() - since).total_seconds()
        if left > 0:
            self.report.waiting(self.subject, Reason.INSTANCE_STARTING, message)
            return Outcome(min(left, self.memory.pauses.next()))
        status = self._status()
        uid = self.fields.get("uid") or status.get("uid")
        known = [*(status.get("requestIDs") or []), *ids, *([uid] if uid else [])]
        self.fields["requestIDs"] = list(dict.fromkeys(known))[-MAX_REQUEST_IDS:]
        self.report.stalled(
            self.subject,
            Reason.STUCK_STARTING,
            f"{self.main} has been starting since {since:%Y-%m-%dT%H:%M:%SZ}, which is longer than spec.startTimeout "
            f"({self.subject.spec.start_timeout}). Check the limits of the workspace, then ask Databricks' support, with the "
            "ids in status.requestIDs. It is looked at from time to time.",
        )
        return Outcome(LONGEST_PAUSE)

    def _failed(self, error: LakebaseError) -> Outcome:
        self._keep_request_id(error)
        return super()._failed(error)

    def _keep_request_id(self, error: LakebaseError) -> None:
        """Note how Databricks calls the request: of the first failure of a kind only, since it differs each time."""
        status = self._status()
        reasons = [one["reason"] for one in status.get("conditions") or [] if one["type"] == "Ready"]
        if error.request_id is None or (error.reason in reasons and status.get("requestIDs")):
            self.fields["requestIDs"] = status.get("requestIDs")
            return
        known = [*(status.get("requestIDs") or []), error.request_id]
        self.fields["requestIDs"] = known[-MAX_REQUEST_IDS:]

    # -- going ---------------------------------------------------------------------------------------------------

    async def _leave(self) -> Outcome:
        """Delete the Lakebase if that is declared; in any case, go only when no connection needs this object any more.

        In a namespace that is deleted, all objects are deleted at once, and a connection has still to take back its grants.
        """
        instance = self.subject
        if not is_finalized(instance):
            return Outcome()
        if is_abandoned(instance):
            self.goes = False
            return Outcome()
        users = connections_of(self.services.catalog, key_of(instance))
        if users:
            self.report.waiting(
                instance,
                Reason.WAITING_FOR_DEPENDENTS,
                f"Waits for LakebaseConnection {some([str(one) for one in users])}, which points at it. Delete it first.",
            )
            return Outcome(SLOW_RETRY)
        stranger = not instance.spec.adopt and self.main.name not in self._made()
        if (
            instance.spec.deletion_policy is InstanceDeletionPolicy.RETAIN
            or stranger
            or self._older_namesake() is not None
        ):
            self.goes = True
            return Outcome()
        lakebase = await self._api()
        if (outcome := await self._follow(lakebase)) is not None:
            return outcome
        self.fields["operation"] = None
        wanted = next(one for one in domain.wanted(instance.spec) if one.resource == self.main)
        there = (await self._observed("observe", lakebase.observe([wanted]))).get(self.main)
        if there is None or there.deleted or (not instance.spec.adopt and self._is_another(there)):
            self.goes = True
            return Outcome()
        step = DeleteStep(self.main)
        name = await self._observed("delete", lakebase.carry_out(step))
        if name:
            self.fields["operation"] = self._operation("Delete", self.main.name) | {"name": name}
        self.report.waiting(instance, Reason.DELETING, f"Asked Databricks: {domain.words(step)}.")
        return Outcome(self.memory.pauses.next())

    # -- small things --------------------------------------------------------------------------------------------

    def _made(self) -> tuple[str, ...]:
        return tuple(self.fields.get("made", self._status().get("made")) or ())

    def _is_another(self, there: Found | None) -> bool:
        """Whether the Lakebase is not the one that was seen last, but one that somebody has made under its name since."""
        before = self._status().get("uid")
        return bool(before and there is not None and there.uid and there.uid != before)

    def _note_made(self, name: str) -> None:
        self.fields["made"] = sorted({*self._made(), name})

    def _forget_made(self, names: Set[str]) -> None:
        if names:
            self.fields["made"] = sorted({*self._made()} - names)


def _connectable(status: Mapping[str, Any]) -> frozenset[str]:
    """The branches whose database accepts connections, asleep or not; the main one has no name."""
    places = [("", status.get("endpoint") or {})]
    places += [(one["name"], one.get("endpoint") or {}) for one in status.get("branches") or []]
    states = [state for state in InstanceState if state.connectable]
    return frozenset(branch for branch, place in places if place.get("state") in states)
