"""The log: JSON for machines, plain for a terminal, and never a secret."""

import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from lakebase_operator.settings import LogFormat, LogLevel

HIDDEN = "***"
MIN_SECRET = 4
"""Shorter texts are not hidden by value: they would be found in ordinary words."""
MAX_SECRETS = 4096
"""Values that are remembered; the oldest are forgotten first (tokens live for an hour)."""

# What looks like a credential is hidden even if nobody said that it is one.
_PATTERNS = (
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), HIDDEN),  # a JSON Web Token
    (re.compile(r"\bdapi[0-9a-f]{16,}(?:-\d+)?\b"), HIDDEN),  # a Databricks personal access token
    (re.compile(r"\bdose[0-9a-f]{16,}\b"), HIDDEN),  # a Databricks OAuth client secret
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(?i)\b(\w*(?:password|passwd|secret|token)\"?'?\s*[=:]\s*[\"']?)[^\s\"',;&)}\]]{4,}"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)(\bpassword\s+')(?:[^']|'')+(')"), rf"\1{HIDDEN}\2"),  # SQL
    (re.compile(r"(\w+://[^\s:/@]+:)[^\s@/]+(@)"), rf"\1{HIDDEN}\2"),  # a URL
    (re.compile(r"SCRAM-SHA-256\$[^\s'\"]+"), HIDDEN),
)


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self._known: re.Pattern[str] | None = None

    def hide(self, value: str) -> None:
        """From now on ``value`` is not shown."""
        if len(value) < MIN_SECRET or value in self._values:
            return
        self._values[value] = None
        while len(self._values) > MAX_SECRETS:
            del self._values[next(iter(self._values))]
        # As it is, and as it looks in Python's and in JSON's quotes; the longest first, as one may be part of another.
        forms = {form for one in self._values for form in (one, json.dumps(one)[1:-1], repr(one)[1:-1])}
        self._known = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))

    def __call__(self, text: str) -> str:
        """``text`` without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


class _Json(JsonFormatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
        self._redact = redact

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Before it becomes JSON, which would disguise a secret that has a quote in it."""
        return {
            name: value
            if value is None or isinstance(value, bool | int | float)
            else self._redact(str(value))
            for name, value in super().process_log_record(log_data).items()
        }


class _Plain(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
        self._redact = redact

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record)
        about = (getattr(record, name, None) for name in ("connection", "object"))
        return " ".join([line, *(f"[{one}]" for one in about if one)])

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


_QUIET = {
    # Their INFO is about their own machinery.
    **dict.fromkeys(("kopf", "aiohttp", "asyncio", "databricks", "kubernetes"), logging.WARNING),
    # Its warnings are of errors in the wake of another one, which is told.
    "psycopg": logging.ERROR,
}


def configure(form: LogFormat, level: LogLevel, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Send all logs to ``stream`` (default: standard error).

    Records may carry the extra fields ``connection`` and ``object``.
    """
    stream = stream or sys.stderr
    plain = form is LogFormat.PLAIN or (form is LogFormat.AUTO and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Plain(redactor) if plain else _Json(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.value)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(logging.INFO if level is LogLevel.DEBUG else quiet)
