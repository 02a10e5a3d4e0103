"""Globs of the API as patterns of SQL's LIKE."""

from functools import lru_cache


@lru_cache(1024)
def like_pattern(glob: str) -> str:
    r"""Translate a glob (``*`` any characters, ``?`` one) for ``LIKE`` with its default escape ``\``.

    >>> like_pattern("order_*")
    'order\\_%'
    """
    translated = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(translated.get(character, character) for character in glob)
