"""Statements that change privileges and roles, composed with ``psycopg.sql`` only."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from lakebase_operator.api.access_grant import Privilege
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.privileges import ObjectClass


class Verb(StrEnum):
    """What a privilege statement does."""

    GRANT = "GRANT"
    REVOKE = "REVOKE"


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """An object as a statement names it."""

    object_class: ObjectClass
    schema: str | None
    name: str

    def identifier(self) -> sql.Identifier:
        """Quoted, with its schema where it has one."""
        return (
            sql.Identifier(self.schema, self.name) if self.schema is not None else sql.Identifier(self.name)
        )

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema is not None else self.name


@dataclass(frozen=True, slots=True)
class PrivilegeStatement:
    """A rectangle: objects × privileges × grantees, in one GRANT or REVOKE."""

    verb: Verb
    objects: tuple[ObjectName, ...]
    """All of one class."""
    privileges: tuple[Privilege, ...]
    grantees: tuple[str, ...]
    """Role names, or PUBLIC."""
    acting_as: str | None
    """The role that is set for the statement, so that it is the grantor; None: the operator as it is."""
    columns: tuple[str, ...] = ()
    """Of a single table: the privileges are on these only."""
    grant_option: bool = False

    def halves(self) -> tuple["PrivilegeStatement", ...]:
        """Two smaller statements with the same effect, or none if it cannot be split: how a culprit is found."""
        for attribute in ("objects", "grantees", "privileges"):
            items: tuple[object, ...] = getattr(self, attribute)
            if len(items) > 1:
                middle = len(items) // 2
                return tuple(self._with(attribute, part) for part in (items[:middle], items[middle:]))
        return ()

    def one_by_one(self) -> tuple["PrivilegeStatement", ...]:
        """A statement for each object, or none if there is only one."""
        return tuple(self._with("objects", (item,)) for item in self.objects) if len(self.objects) > 1 else ()

    def _with(self, attribute: str, value: tuple[object, ...]) -> "PrivilegeStatement":
        fields = {name: getattr(self, name) for name in self.__slots__} | {attribute: value}
        return PrivilegeStatement(**fields)

    def compose(self) -> sql.Composed:
        """The statement itself."""
        preposition = sql.SQL("TO") if self.verb is Verb.GRANT else sql.SQL("FROM")
        names = sql.SQL(", ").join(sql.Identifier(name) for name in self.columns)
        columns = sql.SQL(" ({})").format(names) if self.columns else sql.SQL("")
        return sql.SQL("{} {} ON {} {} {} {}{}").format(
            sql.SQL(self.verb.value),
            sql.SQL(", ").join(sql.SQL(privilege.value) + columns for privilege in self.privileges),
            sql.SQL(self.objects[0].object_class.value),
            sql.SQL(", ").join(item.identifier() for item in self.objects),
            preposition,
            sql.SQL(", ").join(role_specification(name) for name in self.grantees),
            sql.SQL(" WITH GRANT OPTION" if self.grant_option else ""),
        )

    def __str__(self) -> str:
        return self.compose().as_string(None)


def role_specification(name: str) -> sql.Composable:
    """A grantee: PUBLIC as the keyword, any other name quoted."""
    return sql.SQL("PUBLIC") if name == PUBLIC else sql.Identifier(name)


def _option(keyword: str, wanted: bool | None) -> Iterable[sql.Composable]:
    if wanted is not None:
        yield sql.SQL(keyword if wanted else f"NO{keyword}")


def role_options(
    *,
    login: bool | None = None,
    create_db: bool | None = None,
    create_role: bool | None = None,
    bypass_rls: bool | None = None,
    inherit: bool | None = None,
    connection_limit: int | None = None,
    valid_until: str | None = None,
) -> Sequence[sql.Composable]:
    """Options of CREATE and ALTER ROLE; what is None is not mentioned.

    Only what changes may be mentioned: a role that is no superuser is refused even for an unchanged
    ``NOBYPASSRLS`` (https://www.postgresql.org/docs/current/sql-alterrole.html).
    """
    options: list[sql.Composable] = [
        *_option("LOGIN", login),
        *_option("CREATEDB", create_db),
        *_option("CREATEROLE", create_role),
        *_option("BYPASSRLS", bypass_rls),
        *_option("INHERIT", inherit),
    ]
    if connection_limit is not None:
        options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(connection_limit)))
    if valid_until is not None:
        options.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(valid_until)))
    return options


def create_role(name: str, options: Sequence[sql.Composable]) -> sql.Composed:
    """``CREATE ROLE``."""
    return sql.SQL(" ").join([sql.SQL("CREATE ROLE"), sql.Identifier(name), *options])


def create_identity_role(name: str, identity: str, schema: str) -> sql.Composed:
    """A role that a Databricks identity logs in to with OAuth (extension ``databricks_auth``, in ``schema``)."""
    return sql.SQL("SELECT {}({}, {})").format(
        sql.Identifier(schema, "databricks_create_role"), sql.Literal(name), sql.Literal(identity)
    )


def alter_role(name: str, options: Sequence[sql.Composable]) -> sql.Composed:
    """``ALTER ROLE``."""
    return sql.SQL(" ").join([sql.SQL("ALTER ROLE"), sql.Identifier(name), *options])


LIST_PARAMETERS = frozenset(
    {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
)
"""Parameters whose value is a list of names: given as one string, it would become a list of one strange name."""


def parameter_values(parameter: str, value: str) -> tuple[str, ...]:
    """The value of a parameter as PostgreSQL reads it: of a list, its names.

    >>> parameter_values("search_path", '"$user", Sales')
    ('$user', 'sales')
    """
    if parameter.lower() not in LIST_PARAMETERS:
        return (value,)
    names = re.findall(r'"(?:[^"]|"")*"|[^\s,"]+', value)
    unquoted = (name[1:-1].replace('""', '"') if name.startswith('"') else name.lower() for name in names)
    return tuple(unquoted) or ("",)


def set_role_parameter(name: str, parameter: str, value: str) -> sql.Composed:
    """``ALTER ROLE … SET``. The parameter may have two parts (``extension.parameter``)."""
    return sql.SQL("ALTER ROLE {} SET {} TO {}").format(
        sql.Identifier(name),
        sql.Identifier(*parameter.split(".")),
        sql.SQL(", ").join(sql.Literal(one) for one in parameter_values(parameter, value)),
    )


def reset_role_parameter(name: str, parameter: str) -> sql.Composed:
    """``ALTER ROLE … RESET``."""
    return sql.SQL("ALTER ROLE {} RESET {}").format(
        sql.Identifier(name), sql.Identifier(*parameter.split("."))
    )


def grant_membership(role: str, member: str, *, admin: bool, inherit: bool, set_: bool) -> sql.Composed:
    """``GRANT role TO member`` with all three options said (PostgreSQL 16 keeps old ones otherwise)."""
    return sql.SQL("GRANT {} TO {} WITH ADMIN {}, INHERIT {}, SET {}").format(
        sql.Identifier(role),
        sql.Identifier(member),
        *(sql.SQL(str(flag).upper()) for flag in (admin, inherit, set_)),
    )


def revoke_membership(role: str, member: str, grantor: str) -> sql.Composed:
    """``REVOKE role FROM member``, of what ``grantor`` gave: PostgreSQL keeps the memberships of several grantors apart."""
    return sql.SQL("REVOKE {} FROM {} GRANTED BY {}").format(
        sql.Identifier(role), sql.Identifier(member), sql.Identifier(grantor)
    )


def give_back_membership(role: str, operator_role: str) -> sql.Composed:
    """End a membership that the operator gave itself. Without GRANTED BY the grantor is that of the GRANT: the operator, or
    the role through which it has ADMIN option."""
    return sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(operator_role))


def drop_role(name: str) -> sql.Composed:
    """``DROP ROLE``."""
    return sql.SQL("DROP ROLE {}").format(sql.Identifier(name))


def set_local_role(name: str) -> sql.Composed:
    """Act as a role until the end of the transaction or ``RESET ROLE``."""
    return sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(name))


RESET_ROLE = sql.SQL("RESET ROLE")
