"""Access whose time has passed ends before anything else is done, even before roles are looked after."""

from contextlib import AsyncExitStack

from lakebase_operator.api import AccessGrant, LakebaseConnection
from lakebase_operator.domain.desired import Declared
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.declared import declare
from lakebase_operator.reconcilers.grants import GrantsStep, Policy
from lakebase_operator.reconcilers.known_roles import RoleTally
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.platform_schema import PlatformSchemaStep
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import Tally
from lakebase_operator.reconcilers.view import is_deleting


async def end_overdue(
    context: Context, connection: LakebaseConnection, access: Access, home: Connection, found: Preflight
) -> None:
    """Revoke what expired AccessGrants gave, if there are any that no pass has carried out.

    Nothing is said here: the pass that follows looks at everything and reads back what is held. So a database that cannot be
    worked on is left to it, too.

    Raises
    ------
    LakebaseError
        The home database cannot be worked on.
    """
    if context.view.narrow:
        return  # AccessGrants that are not looked at declare the rest; and such a pass is a short one
    if not found.ledger or context.unreadable() is not None or not _overdue(context):
        return
    view, key = context.view, str(context.view.key)
    roles = await Roles.read(home)
    people = resolve(view, roles, MappingResults(context.services.catalog), Report())
    declared: list[Declared] = []
    for grant in view.grants:
        try:
            declared.append(declare(grant, people, roles, found.major_version, context.services.clock.now()))
        except ValueError:
            return  # it may declare the same; the pass tells of it
    roles.tallies = {
        role.role_name: RoleTally(role)
        for role in view.roles
        if not is_deleting(role) and role.role_name in roles.states
    }
    grants = [grant for grant in view.grants if not is_deleting(grant)]
    names = connection.spec.databases
    for name in names:
        async with AsyncExitStack() as stack:
            session, here = home, found
            try:
                if name != names[0]:
                    session = await stack.enter_async_context(access.session(name))
                    here = await preflight(session)
                schemas = PlatformSchemaStep(name, names, session, here, key, roles, Report(), dry=True)
                step = GrantsStep(
                    name,
                    session,
                    here,
                    key,
                    roles,
                    Policy(connection.spec.drift.action),
                    {item.grant.metadata.uid: Tally() for item in declared},
                    others=tuple(one for one in names if one != name),
                    platform=await schemas.run(grants),
                    only_revoke=True,
                )
                result = await step.run(declared, home=name == names[0])
            except LakebaseError:
                if name == names[0]:
                    raise
                continue
        context.services.observer.statements("REVOKE", result.revoked)


def _overdue(context: Context) -> list[AccessGrant]:
    now = context.services.clock.now()
    return [
        grant
        for grant in context.view.grants
        if grant.spec.expires_at is not None and grant.spec.expires_at <= now and context.is_pending(grant)
    ]
