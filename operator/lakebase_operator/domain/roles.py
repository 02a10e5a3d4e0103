"""Roles: what is declared, what is there, and the statements between them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from psycopg import sql

from lakebase_operator.api.postgres_role import IdentityType, PostgresRoleSpec
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.statements import (
    alter_role,
    create_identity_role,
    create_role,
    grant_membership,
    parameter_values,
    reset_role_parameter,
    revoke_membership,
    role_options,
    set_role_parameter,
)

IDENTITY_NAMES = {
    IdentityType.USER: "USER",
    IdentityType.SERVICE_PRINCIPAL: "SERVICE_PRINCIPAL",
    IdentityType.GROUP: "GROUP",
}
"""Kinds of identity as ``databricks_create_role`` spells them."""

BOOTSTRAP_SUPERUSER = 10
"""OID of the role that initdb made."""


@dataclass(frozen=True, slots=True)
class RoleState:
    """A role as it is."""

    oid: int
    name: str
    superuser: bool
    login: bool
    create_db: bool
    create_role: bool
    bypass_rls: bool
    inherit: bool
    connection_limit: int
    valid_until: str | None
    settings: Mapping[str, str]
    identity: str | None
    """``USER``, ``SERVICE_PRINCIPAL`` or ``GROUP`` from its security label; None for a plain role."""
    actor: Actor
    """What the operator may do with it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One membership by one grantor (PostgreSQL 16 and later keep them apart)."""

    role: int
    member: int
    grantor: int
    admin: bool
    inherit: bool
    set: bool


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """What the ledger says of a role that a declaration has made or taken over."""

    role: int
    resource: str
    created: bool
    memberships: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One statement and what it is for."""

    statement: sql.Composed
    doing: str
    """As in "altering role app"."""


def creation(
    name: str, *, identity: IdentityType | None, options: Sequence[sql.Composable], auth_schema: str | None
) -> tuple[Step, ...]:
    """How a role comes into being.

    Parameters
    ----------
    name
        The role's name.
    identity
        Kind of Databricks identity; None makes a plain role.
    options
        From :func:`declared_options`.
    auth_schema
        Schema of the extension databricks_auth.
    """
    doing = f"creating role {name}"
    if identity is None:
        return (Step(create_role(name, options), doing),)
    if auth_schema is None:
        raise ValueError("an identity needs the extension databricks_auth")
    steps = [Step(create_identity_role(name, IDENTITY_NAMES[identity], auth_schema), doing)]
    if options:
        steps.append(Step(alter_role(name, options), f"altering role {name}"))
    return tuple(steps)


def declared_options(spec: PostgresRoleSpec) -> Sequence[sql.Composable]:
    """Options for a role that is made anew: only what is asked for; everything else is PostgreSQL's default (off)."""
    wanted = spec.attributes
    return role_options(
        login=True if spec.login and spec.identity is None else None,
        create_db=wanted.create_db or None,
        create_role=wanted.create_role or None,
        bypass_rls=wanted.bypass_rls or None,
        inherit=wanted.inherit,
        connection_limit=wanted.connection_limit,
        valid_until=_timestamp(wanted.valid_until),
    )


def alteration(spec: PostgresRoleSpec, state: RoleState) -> tuple[Step, ...]:
    """What makes an existing role as declared; mentions only what differs."""
    wanted = spec.attributes
    options = role_options(
        login=_changed(spec.login, state.login),
        create_db=_changed(wanted.create_db, state.create_db),
        create_role=_changed(wanted.create_role, state.create_role),
        bypass_rls=_changed(wanted.bypass_rls, state.bypass_rls),
        inherit=_changed(wanted.inherit, state.inherit),
        connection_limit=(
            wanted.connection_limit
            if wanted.connection_limit is not None and wanted.connection_limit != state.connection_limit
            else None
        ),
        valid_until=(
            _timestamp(wanted.valid_until)
            if wanted.valid_until is not None and _parse(state.valid_until) != wanted.valid_until
            else None
        ),
    )
    return (Step(alter_role(state.name, options), f"altering role {state.name}"),) if options else ()


def _changed(wanted: bool | None, actual: bool) -> bool | None:
    return wanted if wanted is not None and wanted != actual else None


def _timestamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None


def _parse(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:  # infinity, or a year that Python does not know: not what anybody declares
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def settings_change(
    name: str, wanted: Mapping[str, str], actual: Mapping[str, str], ours: Iterable[str]
) -> list[Step]:
    """Session defaults: set what differs, reset what was ours and is no longer declared."""
    lowered = {key.lower(): value for key, value in actual.items()}
    steps = [
        Step(set_role_parameter(name, key, value), f"setting {key} of role {name}")
        for key, value in sorted(wanted.items())
        if key.lower() not in lowered
        or parameter_values(key, lowered[key.lower()]) != parameter_values(key, value)
    ]
    declared = {key.lower() for key in wanted}
    steps += [
        Step(reset_role_parameter(name, key), f"resetting {key} of role {name}")
        for key in sorted(ours)
        if key.lower() not in declared and key.lower() in lowered
    ]
    return steps


@dataclass(frozen=True, slots=True)
class MembershipPlan:
    """What makes memberships as declared."""

    steps: tuple[Step, ...] = ()
    missing_roles: tuple[str, ...] = ()
    """Declared roles that do not exist."""
    not_admin: tuple[str, ...] = ()
    """Roles on which the operator has no ADMIN option, so that it can neither grant nor revoke membership."""
    ours: tuple[int, ...] = field(default=())
    """Memberships to record: declared ones that exist when the steps are done."""


def membership_change(
    spec: PostgresRoleSpec,
    member: RoleState,
    edges: Iterable[Edge],
    ours: Iterable[int],
    find: Callable[[str], RoleState | None],
    by_oid: Callable[[int], RoleState | None],
    *,
    superuser: bool,
) -> MembershipPlan:
    """Compare declared memberships with what is there.

    A declared membership holds if the edges of all grantors together give at least what is declared. Edges of other
    grantors are never changed; the operator's own edge is made exactly as declared.

    The operator's own are those that it granted, itself or through a role whose privileges it has: that role is the
    grantor if only it has ADMIN option. What a superuser grants counts as granted by the bootstrap superuser
    (https://www.postgresql.org/docs/current/sql-grant.html).
    """

    def own_grantor(edge: Edge) -> RoleState | None:
        grantor = by_oid(edge.grantor)
        if grantor is None or grantor.name == member.name:
            return None
        if superuser:
            return grantor if grantor.oid == BOOTSTRAP_SUPERUSER else None
        return grantor if grantor.actor.is_operator or grantor.actor.inherits else None

    mine = [edge for edge in edges if edge.member == member.oid]
    steps: list[Step] = []
    missing: list[str] = []
    not_admin: list[str] = []
    recorded: list[int] = []
    for wanted in spec.member_of:
        role = find(wanted.role)
        if role is None:
            missing.append(wanted.role)
            continue
        own = [edge for edge in mine if edge.role == role.oid and own_grantor(edge) is not None]
        all_edges = [edge for edge in mine if edge.role == role.oid]
        target = (wanted.admin, wanted.inherit, wanted.set)
        held = (
            any(edge.admin for edge in all_edges),
            any(edge.inherit for edge in all_edges),
            any(edge.set for edge in all_edges),
        )
        own_is_exact = all((edge.admin, edge.inherit, edge.set) == target for edge in own)
        enough = bool(all_edges) and all(has or not needed for has, needed in zip(held, target, strict=True))
        if enough and own_is_exact:
            recorded.append(role.oid)
        elif not (role.actor.admin or superuser):
            not_admin.append(role.name)
        else:
            steps.append(
                Step(
                    grant_membership(
                        role.name, member.name, admin=wanted.admin, inherit=wanted.inherit, set_=wanted.set
                    ),
                    f"granting {role.name} to {member.name}",
                )
            )
            recorded.append(role.oid)
    declared = {role.oid for item in spec.member_of if (role := find(item.role)) is not None}
    for oid in ours:
        role = by_oid(oid)
        if role is None or oid in declared:
            continue
        grantors = [found for edge in mine if edge.role == oid and (found := own_grantor(edge)) is not None]
        if grantors and not (role.actor.admin or superuser):
            not_admin.append(role.name)
            recorded.append(oid)
            continue
        steps += [
            Step(
                revoke_membership(role.name, member.name, grantor.name),
                f"revoking {role.name} from {member.name}",
            )
            for grantor in grantors
        ]
    return MembershipPlan(tuple(steps), tuple(missing), tuple(not_admin), tuple(recorded))
