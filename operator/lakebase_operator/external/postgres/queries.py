"""The operator's SQL, kept as files."""

from functools import cache
from importlib import resources
from typing import LiteralString, cast


@cache
def query(name: str) -> LiteralString:
    """The text of ``sql/<name>.sql``: part of the program, so as trustworthy as a literal."""
    return cast(LiteralString, resources.files(__package__).joinpath("sql", f"{name}.sql").read_text())  # type: ignore[redundant-cast]  # mypy has no LiteralString


@cache
def comparison(*, record: bool) -> LiteralString:
    """The comparison of the rules with the ACLs; with ``record``, it writes the ledger too."""
    return "WITH " + query("rules") + (query("record") if record else "") + query("compare")
