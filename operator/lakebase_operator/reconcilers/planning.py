"""A look at what a pass would do, for manifests that are in no cluster: nothing is changed, and no status is written."""

from dataclasses import dataclass

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.lakebase_connection import Mode
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import Declared
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import Catalog, key_of
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.declared import declare
from lakebase_operator.reconcilers.gates import SUSPENDED, tell_missing, tell_refused
from lakebase_operator.reconcilers.grants import GrantsStep, Policy
from lakebase_operator.reconcilers.opening import Home, opened
from lakebase_operator.reconcilers.ownership import OwnershipStep
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.plans import ROLES, ConnectionPlan, Part
from lakebase_operator.reconcilers.platform_schema import PlatformSchemaStep
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.role_level import tell_nobody_to_ask, to_be_asked
from lakebase_operator.reconcilers.roles import RolesStep
from lakebase_operator.reconcilers.tally import Tally
from lakebase_operator.reconcilers.verdicts import conclude, unsupported
from lakebase_operator.reconcilers.view import Dependent, View, allows, foreign_namespaces


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one object."""

    key: ObjectKey
    verdict: Verdict
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What a pass would do and say."""

    plan: ConnectionPlan
    findings: tuple[Finding, ...]
    """Of objects that would not be ready once the plan is carried out."""


async def look(catalog: Catalog, key: ConnectionKey, access: Access, clock: Clock) -> Planned:
    """Compare the databases of a connection with what the catalog declares for it.

    Raises
    ------
    LakebaseError, psycopg.Error
        A database cannot be reached or read, or the login does not have what the operator needs.
    """
    connection = catalog.connection(key)
    assert connection is not None, "the caller has chosen it"
    report, names = Report(), connection.spec.databases
    view = _view(catalog, key, connection, report)
    if connection.spec.suspend:
        said = Finding(key_of(connection), Verdict.READY, Reason.SUSPENDED, SUSPENDED)
        return Planned(ConnectionPlan(()), (said, *_findings(report)))
    parts: list[Part] = []
    async with access.session(names[0]) as home:
        found = await preflight(home)
        preflights.check(connection, found, report, home=True)
        step = RolesStep(home, found, str(key), report, dry=True)
        roles = await step.run(view)
        statements = [statement for _, statement, _ in step.executed]
        if connection.spec.auth.password is None:
            statements += to_be_asked(roles)
        else:
            tell_nobody_to_ask(roles)
        parts.append(Part(ROLES, tuple(statements)))
        people = resolve(view, roles, MappingResults(catalog), report)
        declared: list[Declared] = []
        for grant in view.grants:
            try:
                declared.append(declare(grant, people, roles, found.major_version, clock.now()))
            except ValueError as error:
                report.stalled(grant, Reason.INVALID_SPEC, str(error))
        tallies = {item.grant.metadata.uid: Tally() for item in declared}
        for item in declared:
            unsupported(item.grant, found.major_version, tallies[item.grant.metadata.uid])
        for name in names:
            async with opened(name, Home(home, found), connection, access, report) as (session, here):
                schemas = PlatformSchemaStep(name, names, session, here, str(key), roles, report, dry=True)
                own = await schemas.run(view.grants)
                owners = OwnershipStep(name, session, here, str(key), roles, dry=True, platform=own)
                await owners.run(home=name == names[0])
                grants = GrantsStep(
                    name,
                    session,
                    here,
                    str(key),
                    roles,
                    _policy(connection),
                    tallies,
                    others=[one for one in names if one != name],
                    platform=own,
                )
                result = await grants.run(declared, home=name == names[0])
            handovers = tuple(statement for _, statement, _ in (*schemas.executed, *owners.executed))
            parts += [Part(f"{name}, owners", handovers), Part(name, result.planned)]
        conclude_roles(roles, names, {}, report)
        for item in declared:
            conclude(item, tallies[item.grant.metadata.uid], clock.now(), report)
    return Planned(ConnectionPlan(tuple(parts)), _findings(report))


def _view(catalog: Catalog, key: ConnectionKey, connection: LakebaseConnection, report: Report) -> View:
    """What the connection lets in, and told what it does not, or what names a connection that is not there.

    Labels of namespaces are in the cluster: where they decide, all are let in.
    """
    for other in catalog.connection_keys():
        if catalog.connection(other) is None:
            for lost in _dependents(catalog, other):
                tell_missing(lost, other, report)
    everyone = _dependents(catalog, key)
    refused = tuple(
        one
        for one in everyone
        if not allows(connection, one.metadata.namespace, {}) and not foreign_namespaces(connection, [one])
    )
    for one in refused:
        tell_refused(one, key, report)
    return View(
        key,
        connection,
        tuple(one for one in catalog.roles(key) if one not in report),
        tuple(one for one in catalog.mappings(key) if one not in report),
        tuple(one for one in catalog.grants(key) if one not in report),
        (),
        refused,
    )


def _dependents(catalog: Catalog, key: ConnectionKey) -> tuple[Dependent, ...]:
    return (*catalog.roles(key), *catalog.mappings(key), *catalog.grants(key))


def _policy(connection: LakebaseConnection) -> Policy:
    return Policy(connection.spec.drift.action, connection.spec.unmanaged_grants, Mode.PLAN)


def _findings(report: Report) -> tuple[Finding, ...]:
    found = [
        Finding(key_of(saying.subject), saying.verdict, saying.reason, saying.message)
        for saying in report.said()
        if saying.verdict is not None
        and saying.verdict is not Verdict.READY
        and saying.reason is not Reason.PLANNED
    ]
    return tuple(sorted(found, key=lambda one: (one.key.kind, one.key.namespace, one.key.name)))
