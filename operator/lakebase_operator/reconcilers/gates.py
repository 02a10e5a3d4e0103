"""What decides before any database is looked at: objects that cannot be read, are refused, abandoned or suspended, and a
connection that is not there or is on its way out."""

from lakebase_operator.api import LakebaseConnection, UserMapping
from lakebase_operator.api.lakebase_connection import ConnectionDeletionPolicy
from lakebase_operator.api.reasons import Reason
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.reconcilers.context import ABANDON, Context
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.view import Dependent, is_abandoned, is_deleting, is_finalized

SUSPENDED = "spec.suspend is set: the database is left alone."


def tell_broken(context: Context) -> None:
    """What cannot be read is said, and declares nothing."""
    for broken in context.view.broken:
        if not is_deleting(broken):
            context.report.stalled(broken, Reason.INVALID_SPEC, broken.problem)
        elif broken.kind == LakebaseConnection.kind_name or is_abandoned(broken):
            context.leaving.append(Leaving(broken, cleaned=False))


def tell_broken_that_stay(context: Context) -> None:
    """What cannot be read and is being deleted, where this pass did not come to clean up."""
    leaving = {id(one.subject) for one in context.leaving}
    for broken in context.view.broken:
        stays = is_deleting(broken) and is_finalized(broken) and id(broken) not in leaving
        if stays and broken not in context.report:
            context.report.waiting(
                broken,
                Reason.DELETION_BLOCKED,
                f"Cannot be cleaned up now: the LakebaseConnection {context.view.key} is not usable, and its own Ready "
                f"says why. {ABANDON}",
            )


def refuse(context: Context) -> None:
    """Objects from namespaces that the connection does not allow."""
    for one in context.view.refused:
        if is_deleting(one):
            # It declares nothing, so whatever it gave before is taken back by this very pass.
            context.leaving.append(Leaving(one, cleaned=True))
            continue
        tell_refused(one, context.view.key, context.report)


def tell_refused(one: Dependent, key: ConnectionKey, report: Report) -> None:
    """It names a connection that does not allow its namespace."""
    report.stalled(
        one,
        Reason.CONNECTION_NOT_ALLOWED,
        f"spec.connectionRef: the LakebaseConnection {key} does not allow references from this "
        "namespace. Its owner can do so in spec.allowedNamespaces.",
    )


def without_connection(context: Context) -> None:
    """There is no connection, or it cannot be read."""
    key, broken = context.view.key, context.view.broken
    unreadable = any(one.kind == LakebaseConnection.kind_name for one in broken)
    if not unreadable:
        context.leaving.extend(Leaving(one, cleaned=False) for one in broken if is_deleting(one))
    for one in context.view.dependents:
        if unreadable:
            context.wait(one, Reason.CONNECTION_NOT_READY, f"The LakebaseConnection {key} cannot be read.")
        elif is_deleting(one):
            context.leaving.append(Leaving(one, cleaned=isinstance(one, UserMapping)))
        else:
            tell_missing(one, key, context.report)


def tell_missing(one: Dependent, key: ConnectionKey, report: Report) -> None:
    """It names a connection that is not there."""
    name = (
        f"There is no LakebaseConnection {key}." if key.name else "This namespace has no LakebaseConnection."
    )
    report.waiting(one, Reason.CONNECTION_NOT_FOUND, f"{name} It is picked up when it appears.")


def abandon(context: Context, connection: LakebaseConnection) -> None:
    """Objects that a person wants gone without cleaning up."""
    for one in (connection, *context.view.dependents):
        if is_deleting(one) and is_finalized(one) and is_abandoned(one):
            context.leaving.append(Leaving(one, cleaned=False))


def suspended(context: Context, connection: LakebaseConnection) -> Outcome:
    """Nothing is touched."""
    message = SUSPENDED
    context.tell_counts(connection)
    if is_deleting(connection):
        context.report.waiting(
            connection, Reason.CONNECTION_SUSPENDED, f"{message} Resume it, so that it can be deleted."
        )
    else:
        context.report.ready(connection, Reason.SUSPENDED, message)
    for one in context.view.dependents:
        if context.is_pending(one):
            context.wait(
                one,
                Reason.CONNECTION_SUSPENDED,
                f"The LakebaseConnection {context.view.key} is suspended; this is carried out when it is resumed.",
            )
    return Outcome()


async def wait_for_dependents(context: Context, connection: LakebaseConnection) -> Outcome | None:
    """A connection that is being deleted waits for dependents that are being deleted too. None: the wait is over."""
    if not is_finalized(connection) or is_abandoned(connection):
        return Outcome()
    if needed(context):
        return None
    # A namespace deletes its objects one after the other: those that still come need this connection.
    asked = connection.metadata.deletion_timestamp
    assert asked is not None
    services = context.services
    left = services.settings.deletion_grace_seconds - (services.clock.now() - asked).total_seconds()
    if left > 0 or await _more_will_go(context, connection):
        context.report.waiting(
            connection, Reason.WAITING_FOR_DEPENDENTS, "Waits for objects that are deleted with it."
        )
        return Outcome(left if left > 0 else 1.0)
    return None


def needed(context: Context) -> bool:
    """Whether something that is being deleted is to be cleaned up with the connection's credential."""
    return any(is_deleting(one) and is_finalized(one) for one in context.view.dependents)


def retains(connection: LakebaseConnection) -> bool:
    """Whether its grants outlive the connection."""
    return connection.spec.deletion_policy is ConnectionDeletionPolicy.RETAIN


async def _more_will_go(context: Context, connection: LakebaseConnection) -> bool:
    """Whether the namespace is being deleted and has not come to all dependents yet."""
    namespace = connection.metadata.namespace
    staying = any(
        one.metadata.namespace == namespace and is_finalized(one) and not is_deleting(one)
        for one in context.view.dependents
    )
    return staying and await context.services.kube.namespace_is_going(namespace)
