"""The operator's SQL, kept as files."""

from functools import cache
from importlib import resources
from typing import LiteralString, cast


@cache
def query(name: str) -> LiteralString:
    """The text of ``sql/<name>.sql``: part of the program, so as trustworthy as a literal."""
    return cast(LiteralString, resources.files(__package__).joinpath("sql", f"{name}.sql").read_text())  # type: ignore[redundant-cast]  # mypy has no LiteralString


@cache
def with_rules(name: str) -> LiteralString:
    """A statement that starts from the rules and the ACLs (``sql/rules.sql``)."""
    return "WITH " + query("rules") + query(name)
