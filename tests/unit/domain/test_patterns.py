"""Globs as patterns of LIKE."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.domain.patterns import like_pattern


def like(pattern: str, text: str) -> bool:
    """What PostgreSQL's LIKE says, with its default escape."""
    parts, characters = [], iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters)))
        else:
            parts.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("glob", "pattern"),
    [
        ("order_*", "order\\_%"),
        ("a?", "a_"),
        ("100%", "100\\%"),
        ("a\\b", "a\\\\b"),
        ("[x]", "[x]"),
        ("", ""),
    ],
)
def test_a_glob_becomes_a_pattern(glob: str, pattern: str) -> None:
    assert like_pattern(glob) == pattern


@given(st.text(alphabet="ab%_\\*?.\n'", max_size=8), st.text(alphabet="ab%_\\.\n'", max_size=8))
def test_a_pattern_matches_what_its_glob_matches(glob: str, text: str) -> None:
    assert like(like_pattern(glob), text) == (re.fullmatch(fnmatch.translate(glob), text) is not None)


@given(st.text(max_size=20))
def test_without_wildcards_only_the_text_itself_matches(text: str) -> None:
    literal = text.replace("*", "").replace("?", "")
    assert like(like_pattern(literal), literal)
    assert not like(like_pattern(literal), literal + "x")
