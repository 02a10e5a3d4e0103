"""Roles themselves: what is declared, what is there, and the statements between them.

Their memberships are in :mod:`.memberships`, their settings in :mod:`.role_settings`, what they own in :mod:`.ownership`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from psycopg import sql

from lakebase_operator.api.postgres_role import IdentityType, PostgresRoleSpec
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.passwords import declared_login
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.role_statements import (
    alter_role,
    comment_on_role,
    create_identity_role,
    create_role,
    role_options,
)

IDENTITY_NAMES = {
    IdentityType.USER: "USER",
    IdentityType.SERVICE_PRINCIPAL: "SERVICE_PRINCIPAL",
    IdentityType.GROUP: "GROUP",
}
"""Kinds of identity as ``databricks_create_role`` spells them."""


NO_SETTINGS: Mapping[Any, Any] = MappingProxyType({})
"""Of most roles, which share it."""


class RoleState(NamedTuple):
    """A role as it is. A tuple, since every pass reads all roles of the server."""

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
    comment: str | None = None
    database_settings: Mapping[int, Mapping[str, str]] = NO_SETTINGS
    """Settings in single databases, by OID of the database."""
    alterable: bool = False
    """The operator may ALTER it: it has ADMIN option in any way. To grant it, it must be ``actor.admin``."""


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """What the ledger says of a role that a declaration has made or taken over."""

    role: int
    resource: str
    created: bool
    memberships: tuple[int, ...] = ()
    """OIDs of roles."""
    settings: tuple[str, ...] = ()
    database_settings: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By OID of the database."""
    commented: bool = False
    """The comment is the declaration's."""
    superuser: bool = False
    """The membership in databricks_superuser was given through the Databricks API."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement and what it is for."""

    statement: sql.Composed
    doing: str
    """As in "altering role app"."""
    acting_as: Actor | None = None
    """The role that is set for the statement; None: the operator as it is."""
    about: int | str | None = None
    """What the ledger knows it by: OID of a group, name of a setting."""
    shown: sql.Composed | None = None
    """What is shown and logged instead, where the statement holds a secret."""

    def __str__(self) -> str:
        return (self.shown or self.statement).as_string(None)


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is not as declared, or that nobody declared."""

    object: str
    """As in "membership in analysts"."""
    reason: Reason
    fix: str
    """What to do: where possible the exact statement."""
    privilege: str | None = None


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
        login=True if declared_login(spec) and spec.identity is None else None,
        create_db=wanted.create_db or None,
        create_role=wanted.create_role or None,
        bypass_rls=wanted.bypass_rls or None,
        inherit=wanted.inherit,
        connection_limit=wanted.connection_limit,
        valid_until=_timestamp(wanted.valid_until),
    )


def state_as_made(name: str, spec: PostgresRoleSpec | None, actor: Actor) -> RoleState:
    """What a role is like right after it was made by :func:`creation`.

    Parameters
    ----------
    name
        Its name.
    spec
        The declaration; None: a UserMapping makes it.
    actor
        What the operator may do with it.
    """
    wanted = spec.attributes if spec is not None else None
    return RoleState(
        oid=actor.oid,
        name=name,
        superuser=False,
        login=spec is None or declared_login(spec) is True or spec.identity is not None,
        create_db=bool(wanted and wanted.create_db),
        create_role=bool(wanted and wanted.create_role),
        bypass_rls=bool(wanted and wanted.bypass_rls),
        inherit=wanted is None or wanted.inherit is not False,
        connection_limit=wanted.connection_limit if wanted and wanted.connection_limit is not None else -1,
        valid_until=_timestamp(wanted.valid_until) if wanted else None,
        settings={},
        identity=IDENTITY_NAMES[spec.identity.type] if spec is not None and spec.identity else None,
        actor=actor,
        alterable=True,
    )


def alteration(spec: PostgresRoleSpec, state: RoleState) -> tuple[Step, ...]:
    """What makes an existing role as declared; mentions only what differs."""
    wanted = spec.attributes
    options = role_options(
        login=_changed(declared_login(spec), state.login),
        create_db=_changed(wanted.create_db, state.create_db),
        create_role=_changed(wanted.create_role, state.create_role),
        bypass_rls=_changed(wanted.bypass_rls, state.bypass_rls),
        inherit=_changed(wanted.inherit, state.inherit),
        connection_limit=(
            wanted.connection_limit
            if wanted.connection_limit is not None and wanted.connection_limit != state.connection_limit
            else None
        ),
        valid_until=_valid_until(spec, state),
    )
    return (Step(alter_role(state.name, options), f"altering role {state.name}"),) if options else ()


def restricts_login(spec: PostgresRoleSpec) -> bool:
    """Whether a declaration says how, how often or until when the role logs in, or that it does not: nothing for the operator's own."""
    wanted = spec.attributes
    limited = wanted.valid_until is not None or wanted.connection_limit is not None
    return spec.password is not None or declared_login(spec) is False or limited


def comment_change(spec: PostgresRoleSpec, state: RoleState, *, ours: bool) -> tuple[Step, ...]:
    """What makes the comment as declared; one that was set by the declaration goes with it."""
    if spec.comment == state.comment or (spec.comment is None and not ours):
        return ()
    return (Step(comment_on_role(state.name, spec.comment), f"commenting on role {state.name}"),)


def _valid_until(spec: PostgresRoleSpec, state: RoleState) -> str | None:
    """The date to set, or None to leave it. Who declares that a role logs in declares its whole validity."""
    wanted = spec.attributes.valid_until
    if wanted is not None:
        return _timestamp(wanted) if _parse(state.valid_until) != wanted else None
    limited = state.valid_until not in (None, "infinity")
    return "infinity" if (spec.login or spec.password) and limited else None


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
