"""Reads what an enumeration says of its members: the docstring below each, and the section that it stands in.

Python itself throws both away, so they are read from the source.
"""

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from enum import StrEnum

from lakebase_operator.crdgen.schema import UnsupportedSchema, paragraphs

_SECTION = re.compile(r"^\s*# -- (?P<title>.+?) -+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the reference shows it."""

    value: str
    description: str
    section: str


def members(enumeration: type[StrEnum]) -> tuple[Member, ...]:
    """The members in the order of the source; sections are comments of the form ``# -- title ------``.

    Raises
    ------
    UnsupportedSchema
        A member has no docstring.
    """
    source = textwrap.dedent(inspect.getsource(enumeration))
    titles = {source.count("\n", 0, found.start()) + 1: found["title"] for found in _SECTION.finditer(source)}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)

    documented: list[Member] = []
    for statement, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) if name in enumeration.__members__:
                documented.append(
                    Member(
                        value=enumeration[name].value,
                        description=_docstring(following, f"{enumeration.__name__}.{name}"),
                        section=next(
                            (t for line, t in reversed(titles.items()) if line <= statement.lineno), ""
                        ),
                    )
                )
    return tuple(documented)


def _docstring(statement: ast.stmt | None, path: str) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return paragraphs(text).replace("``", "`")
        case _:
            raise UnsupportedSchema(path, "has no docstring below it")
