"""The operator's SQL, kept as files."""

from functools import cache
from importlib import resources
from typing import LiteralString, cast

from lakebase_operator.api.names import SYSTEM_ROLE, SYSTEM_SCHEMA


@cache
def query(name: str) -> LiteralString:
    """The text of ``sql/<name>.sql``: part of the program, so as trustworthy as a literal.

    ``@SYSTEM_ROLE@`` and ``@SYSTEM_SCHEMA@`` in it stand for the patterns of ``api.names``.
    """
    text = resources.files(__package__).joinpath("sql", f"{name}.sql").read_text()
    text = text.replace("@SYSTEM_ROLE@", SYSTEM_ROLE.pattern).replace(
        "@SYSTEM_SCHEMA@", SYSTEM_SCHEMA.pattern
    )
    return cast(LiteralString, text)  # type: ignore[redundant-cast]  # mypy has no LiteralString


@cache
def comparison(*, record: bool) -> LiteralString:
    """The comparison of the rules with the ACLs; with ``record``, it writes the ledger too."""
    return "WITH " + query("rules") + (query("record") if record else "") + query("compare")


@cache
def access_held(*, ledger: bool) -> LiteralString:
    """What roles hold in a database; without a ledger, nothing counts as declared."""
    source = query("ledger_held" if ledger else "ledger_none")
    return cast(LiteralString, query("access_held").replace("@LEDGER@", source))  # type: ignore[redundant-cast]
