"""Statements that change privileges, composed with ``psycopg.sql`` only."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import LiteralString, NamedTuple, cast

from psycopg import sql

from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.privileges import ObjectClass


class Verb(StrEnum):
    """What a privilege statement does."""

    GRANT = "GRANT"
    REVOKE = "REVOKE"


class ObjectName(NamedTuple):
    """An object as a statement names it."""

    object_class: ObjectClass
    schema: str | None
    name: str
    """Of default privileges: the role whose new objects are meant."""
    detail: str | None = None
    """Of a routine its argument types, as the server itself has quoted them; of a column the column."""

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """For a stable order."""
        return (self.object_class.value, self.schema or "", self.name, self.detail or "")

    def identifier(self) -> sql.Composable:
        """Quoted, with its schema where it has one."""
        match self.object_class:
            case ObjectClass.LARGE_OBJECT:
                return sql.Literal(int(self.name))
            case ObjectClass.PARAMETER:
                return sql.SQL(".").join(sql.Identifier(part) for part in self.name.split("."))
            case ObjectClass.ROUTINE:
                return sql.Composed([self._qualified(), sql.SQL(f"({_as_input(self.detail or '')})")])
            case _:
                return self._qualified()

    def _qualified(self) -> sql.Identifier:
        return (
            sql.Identifier(self.schema, self.name) if self.schema is not None else sql.Identifier(self.name)
        )

    @property
    def table(self) -> "ObjectName":
        """Of a column: its table."""
        return ObjectName(ObjectClass.TABLE, self.schema, self.name)

    def __str__(self) -> str:
        where = f"{self.schema}.{self.name}" if self.schema is not None else self.name
        if self.object_class is ObjectClass.COLUMN:
            return f"{where}.{self.detail}"
        if self.object_class is ObjectClass.ROUTINE:
            return f"{where}({self.detail or ''})"
        if self.object_class.is_default:
            what = self.object_class.value.removeprefix("DEFAULT ").lower()
            return f'new {what} of "{self.name}"' + (f" in {self.schema}" if self.schema else "")
        return where


@dataclass(frozen=True, slots=True)
class PrivilegeStatement:
    """A rectangle: objects × privileges × grantees, in one GRANT or REVOKE."""

    verb: Verb
    objects: tuple[ObjectName, ...]
    """All of one class. Default privileges are one at a time; columns are those of one table."""
    privileges: tuple[Privilege, ...]
    grantees: tuple[str, ...]
    """Role names, or PUBLIC."""
    acting_as: str | None
    """The role that is set for the statement, so that it is the grantor; None: the operator as it is."""
    grant_option: bool = False
    """WITH GRANT OPTION; of a REVOKE, the grant option only."""
    text: str = field(init=False, compare=False, repr=False)
    """The statement itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self._compose().as_string(None))

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
        return replace(self, **{attribute: value})  # type: ignore[arg-type]  # mypy cannot know which field

    def _compose(self) -> sql.Composed:
        first = self.objects[0]
        object_class = first.object_class
        columns: sql.Composable = sql.SQL("")
        if object_class is ObjectClass.COLUMN:
            columns = sql.SQL(" ({})").format(
                _list(sql.Identifier(item.detail or "").as_string(None) for item in self.objects)
            )
        revoked = self.grant_option and self.verb is Verb.REVOKE
        return sql.SQL(
            "{prefix}{verb} {option}{privileges} ON {objects} {preposition} {grantees}{suffix}"
        ).format(
            prefix=_default_prefix(first) if object_class.is_default else sql.SQL(""),
            verb=sql.SQL(self.verb.value),
            option=sql.SQL("GRANT OPTION FOR " if revoked else ""),
            privileges=sql.SQL(", ").join(
                sql.SQL(privilege.value) + columns for privilege in self.privileges
            ),
            objects=self._objects(first),
            preposition=sql.SQL("TO" if self.verb is Verb.GRANT else "FROM"),
            grantees=_list(_quoted_role(name) for name in self.grantees),
            suffix=sql.SQL(" WITH GRANT OPTION" if self.grant_option and not revoked else ""),
        )

    def _objects(self, first: ObjectName) -> sql.Composable:
        object_class = first.object_class
        if object_class.is_default:
            return sql.SQL(object_class.value.removeprefix("DEFAULT "))
        if object_class is ObjectClass.COLUMN:
            return sql.SQL("TABLE {}").format(first.table.identifier())
        names = _list(item.identifier().as_string(None) for item in self.objects)
        return sql.SQL("{} {}").format(sql.SQL(object_class.value), names)

    def __str__(self) -> str:
        return self.text


_ARGUMENT = re.compile(r'(?:"[^"]*"|[^",])+')
"""A type, as the server has quoted it: a comma within a quoted name separates nothing."""


def _as_input(arguments: str) -> str:
    """Say that all are input arguments: else ``f(integer,integer)`` might be a procedure with an output argument, too.

    >>> _as_input('integer,"a, b"')
    'IN integer, IN "a, b"'
    """
    return ", ".join(f"IN {one}" for one in _ARGUMENT.findall(arguments))


def _default_prefix(creator: ObjectName) -> sql.Composed:
    where = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(creator.schema)) if creator.schema else sql.SQL("")
    return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} ").format(sql.Identifier(creator.name), where)


def role_specification(name: str) -> sql.Composable:
    """A grantee: PUBLIC as the keyword, any other name quoted."""
    return sql.SQL("PUBLIC") if name == PUBLIC else sql.Identifier(name)


@lru_cache(4096)
def _quoted_role(name: str) -> str:
    """As text: the same roles stand in hundreds of statements."""
    return role_specification(name).as_string(None)


def _list(quoted: Iterable[str]) -> sql.SQL:
    """Names that psycopg has quoted, joined as text: as objects they take most of the time of a plan."""
    return sql.SQL(cast(LiteralString, ", ".join(quoted)))  # type: ignore[redundant-cast]  # mypy has no LiteralString
