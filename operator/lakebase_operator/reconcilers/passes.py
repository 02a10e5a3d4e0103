"""One pass over one connection, from what decides before any database is looked at to how it ended."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import psycopg

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.base import ANNOTATION_APPROVE
from lakebase_operator.api.lakebase_connection import Mode, WhenAsleep
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.links import links
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.ledger import forget_connection
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.external.postgres.session import Server, Timeouts
from lakebase_operator.reconcilers import ending, gates, plans, unreachable_logins
from lakebase_operator.reconcilers import instance as instances
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers import review as reviews
from lakebase_operator.reconcilers.access import (
    Access,
    DatabricksLogin,
    Login,
    Logins,
    SecretValues,
    secret_names,
    server,
)
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.databases import Databases
from lakebase_operator.reconcilers.instance_ref import is_asleep, resolved
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.logins import tell_overdue
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.timing import observed
from lakebase_operator.reconcilers.view import Dependent, is_deleting, is_finalized
from lakebase_operator.reconcilers.writing import add_finalizers

logger = logging.getLogger(__name__)

FORGET_SECONDS = 10.0
"""How long a connection that leaves its grants in place tries to have the ledgers forget it."""


async def run(context: Context, logins: Logins) -> Outcome:
    """Carry out what is declared, as far as it can be done now. What was found is in the context.

    Raises
    ------
    SessionLostError
        A session was lost, and another pass is worth while at once.
    """
    reviews.tell_overdue(context)
    outcome = await _run(context, logins)
    gates.tell_broken_that_stay(context)
    tell_overdue(context)
    if context.view.connection is not None:
        ending.count_pending(context, context.view.connection)
    return outcome


async def _run(context: Context, logins: Logins) -> Outcome:
    gates.tell_broken(context)
    gates.refuse(context)
    connection = context.view.connection
    if connection is None:
        gates.without_connection(context)
        return Outcome()
    gates.abandon(context, connection)
    if connection.spec.suspend:
        return gates.suspended(context, connection)
    if is_deleting(connection):
        if (outcome := await gates.wait_for_dependents(context, connection)) is not None:
            return outcome
        if gates.retains(connection) and not gates.needed(context):
            await _forget(context, connection, logins)
            context.leaving.append(Leaving(connection, cleaned=True))
            return Outcome()
    try:
        return await _work(context, connection, logins)
    except LakebaseError as error:
        return ending.failed(context, connection, error)
    except psycopg.Error as error:
        return ending.failed(context, connection, query_error(error, doing="reading the database"))


async def _work(context: Context, connection: LakebaseConnection, logins: Logins) -> Outcome:
    secrets = await _secrets(context, connection)
    spec = resolved(connection, context.services.catalog)
    context.report.fields(connection, {"links": links(spec)})
    login = logins.login(spec, secrets, asleep=is_asleep(connection, context.services.catalog))
    seen = await _ask(context, login)
    instances.tell(connection, seen, context.report)
    if not seen.state.connectable:
        unreachable_logins.tell_not_available(context, *instances.explain(seen))
        return ending.not_connectable(context, connection, seen)
    if seen.state is InstanceState.ASLEEP and not _may_wake(context, connection):
        return ending.asleep(context, connection, seen)
    target: Server | None = None
    try:
        target = server(connection, seen, secrets, _timeouts(context))
        return await _work_on(context, connection, Access(login, target, seen, context.services.observer))
    except LakebaseError as error:
        await unreachable_logins.tell_unreachable(context, target, error)
        raise


async def _work_on(context: Context, connection: LakebaseConnection, access: Access) -> Outcome:
    if not await _add_finalizers(context, connection):
        # The view is out of date; its change brings the next pass.
        return Outcome(context.memory.pauses.next())
    if connection.spec.mode is Mode.PLAN and not is_deleting(connection):
        return await _plan(context, connection, access)
    done = await Databases(context, connection, access).run()
    return ending.succeeded(context, connection, done.results, done.failures)


async def _plan(context: Context, connection: LakebaseConnection, access: Access) -> Outcome:
    """Look what there is to do, and do it only if somebody has approved just that."""
    looking = replace(context, report=Report(), leaving=[])
    found = await Databases(looking, connection, access, dry=True).run()
    if found.plan and found.plan.is_approved(connection) and not found.failures:
        done = await Databases(context, connection, access, approved=found.plan).run()
        await plans.show(context, connection, plans.ConnectionPlan(()), frozenset())
        return ending.succeeded(context, connection, done.results, done.failures)
    context.report.take(looking.report)
    context.leaving.extend(looking.leaving)
    await plans.show(context, connection, found.plan, frozenset(resource for resource, _ in found.planned))
    return ending.succeeded(context, connection, found.results, found.failures, planned=bool(found.plan))


async def _forget(context: Context, connection: LakebaseConnection, logins: Logins) -> None:
    """Have the ledgers forget a connection that leaves its grants in place: from now on they are nobody's.

    Tried once, and only where nothing has to be woken: nothing is revoked either way, so a database that is out of reach is
    no reason to keep the object.
    """
    try:
        async with asyncio.timeout(FORGET_SECONDS):
            secrets = await _secrets(context, connection)
            catalog = context.services.catalog
            login = logins.login(
                resolved(connection, catalog), secrets, asleep=is_asleep(connection, catalog)
            )
            seen = await _ask(context, login)
            if seen.state is not InstanceState.AVAILABLE:
                logger.info(
                    "The ledger keeps its entries of the connection: the instance is not available",
                    extra={"connection": str(context.view.key)},
                )
                return
            target = server(connection, seen, secrets, replace(_timeouts(context), connect=FORGET_SECONDS))
            access = Access(login, target, seen, context.services.observer)
            for name in connection.spec.databases:
                async with access.session(name) as session:
                    found = await preflight(session)
                    if found.ledger and preflights.problem(found, home=False) is None:
                        await forget_connection(session, str(context.view.key))
    except (LakebaseError, psycopg.Error, TimeoutError) as error:
        logger.warning(
            "The ledger keeps its entries of the connection: %s",
            error or "no answer in time",
            extra={"connection": str(context.view.key)},
        )


# -- reaching the database ---------------------------------------------------------------------------------------------


async def _secrets(context: Context, connection: LakebaseConnection) -> SecretValues:
    services, remembered = context.services, context.memory.secrets
    names = secret_names(connection)
    if context.view.narrow and names <= remembered.keys():
        return {name: remembered[name] for name in names}  # a change of one asks for a look at everything
    found: dict[str, Mapping[str, bytes]] = {}
    for name in sorted(names):
        secret = await services.kube.read_secret(connection.metadata.namespace, name)
        if secret is not None:
            for value in secret.values.values():
                services.hide(value.decode(errors="replace"))
            found[name] = remembered[name] = secret.values
        elif is_deleting(connection) and name in remembered:
            found[name] = remembered[name]
    return found


async def _ask(context: Context, login: Login) -> Instance:
    if not isinstance(login, DatabricksLogin):
        return await login.instance()
    return await observed(context.services.observer, "databricks", "instance", login.instance())


def _may_wake(context: Context, connection: LakebaseConnection) -> bool:
    """Whether there is a reason to wake a sleeping compute: something declared, or asked for, but not a mere look."""
    return (
        connection.spec.when_asleep is WhenAsleep.WAKE
        or context.asked_now(connection)
        or _is_approved(context, connection)
        or context.has_work(connection)
        or any(context.is_pending(one) for one in context.view.dependents)
    )


def _is_approved(context: Context, connection: LakebaseConnection) -> bool:
    plan = context.status().get("plan") or {}
    return connection.metadata.annotations.get(ANNOTATION_APPROVE, "") == plan.get("digest")


def _timeouts(context: Context) -> Timeouts:
    settings = context.services.settings
    return Timeouts(
        connect=settings.connect_timeout_seconds,
        statement=settings.statement_timeout_seconds,
        lock=settings.lock_timeout_seconds,
    )


async def _add_finalizers(context: Context, connection: LakebaseConnection) -> bool:
    """Before the first change in a database, so that no deletion goes unnoticed. False: one has come before it."""
    keepers: tuple[LakebaseConnection | Dependent, ...] = (
        connection,
        *context.view.roles,
        *context.view.grants,
    )
    wanted = [one for one in keepers if not is_deleting(one) and not is_finalized(one)]
    return await add_finalizers(context.services, wanted)
