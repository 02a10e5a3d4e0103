"""The operator's SQL, kept as files."""

import re
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
def comparison(parts: frozenset[str], *, record: bool) -> LiteralString:
    """The comparison of the rules with the ACLs.

    Parameters
    ----------
    parts
        What of it is needed: each class of objects that a rule or the ledger speaks of, ``DEFAULT`` for all default
        privileges, ``writing`` for rules of a level that writes, ``absent`` for rules of what must not be held, ``search`` to look for what
        nobody declares (which needs all). What in the files is between ``-- if <part>`` and ``-- end`` is left out without it.
    record
        Write the ledger too.
    """
    text = "WITH " + query("rules") + (query("record") if record else "") + query("compare")
    kept = _PART.sub(lambda found: found["text"] if found["part"] in parts else "", text)
    return cast(LiteralString, kept)  # type: ignore[redundant-cast]  # mypy has no LiteralString


_PART = re.compile(r"^ *-- if (?P<part>.+)\n(?P<text>(?s:.*?))^ *-- end\n", re.MULTILINE)


@cache
def all_parts() -> frozenset[str]:
    """Every part that the comparison knows."""
    return frozenset(found["part"] for found in _PART.finditer(query("rules") + query("compare")))


@cache
def access_held(*, ledger: bool) -> LiteralString:
    """What roles hold in a database; without a ledger, nothing counts as declared."""
    source = query("ledger_held" if ledger else "ledger_none")
    return cast(LiteralString, query("access_held").replace("@LEDGER@", source))  # type: ignore[redundant-cast]
