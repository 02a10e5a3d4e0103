"""The log never shows a secret."""

import io
import json
import logging

import pytest

from lakebase_operator.runtime.logs import HIDDEN, Redactor, configure
from lakebase_operator.settings import LogFormat, LogLevel

PASSWORD = 'p"ä\\ss wörd!'


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.hide(PASSWORD)
    return made


@pytest.fixture
def _keep_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(form: LogFormat, redactor: Redactor, *args: object, **kwargs: object) -> str:
    stream = io.StringIO()
    configure(form, LogLevel.INFO, redactor, stream)
    logging.getLogger("test").error(*args, **kwargs)  # type: ignore[arg-type]  # passed through
    return stream.getvalue()


@pytest.mark.requirement("R-89")
@pytest.mark.usefixtures("_keep_logging")
@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.PLAIN])
def test_a_known_secret_is_hidden_in_messages_arguments_fields_and_traces(
    form: LogFormat, redactor: Redactor
) -> None:
    try:
        raise ValueError(f"login failed with {PASSWORD}")
    except ValueError:
        text = logged(
            form,
            redactor,
            "as %r and %s",
            PASSWORD,
            PASSWORD,
            exc_info=True,
            extra={"connection": f"team/{PASSWORD}"},
        )
    assert "wörd" not in text
    assert "w\\u00f6rd" not in text
    assert text.count(HIDDEN) >= 4
    assert "login failed with" in text


@pytest.mark.requirement("R-89")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl sent", "token *** sent"),
        ("dapi0123456789abcdef0123456789abcdef", "***"),
        ("dose0123456789abcdef0123456789abcdef", "***"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
        ("host=db password=geheim123 user=me", "host=db password=*** user=me"),
        ('{"client_secret": "geheim123", "a": 1}', '{"client_secret": "***", "a": 1}'),
        ("ALTER ROLE app PASSWORD 'it''s geheim'", "ALTER ROLE app PASSWORD '***'"),
        ("postgresql://me:geheim@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("SCRAM-SHA-256$4096:c2FsdA==$abc:def", "***"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Secret team/marketing-login does not exist",
        "the password is rejected",
        "GRANT SELECT ON TABLE sales.orders TO alice",
        "https://acme.cloud.databricks.com/oidc/v1/token",
        "No such role: token_reader",
    ],
)
def test_ordinary_texts_are_left_alone(text: str) -> None:
    assert Redactor()(text) == text


def test_a_longer_secret_that_holds_a_shorter_one_is_hidden_as_a_whole() -> None:
    redactor = Redactor()
    redactor.hide("geheim")
    redactor.hide("geheim-laenger")
    assert redactor("it is geheim-laenger.") == "it is ***."


def test_a_text_that_is_too_short_to_be_a_secret_is_not_hidden() -> None:
    redactor = Redactor()
    redactor.hide("a")
    redactor.hide("")
    assert redactor("a cat") == "a cat"


@pytest.mark.usefixtures("_keep_logging")
def test_json_lines_carry_the_connection_and_the_object(redactor: Redactor) -> None:
    extra = {"connection": "team/marketing", "object": "AccessGrant team/g"}
    line = json.loads(logged(LogFormat.JSON, redactor, "what happened", extra=extra))
    assert line["message"] == "what happened"
    assert (line["level"], line["logger"]) == ("ERROR", "test")
    assert (line["connection"], line["object"]) == ("team/marketing", "AccessGrant team/g")
    assert line["time"].startswith("20")


@pytest.mark.usefixtures("_keep_logging")
def test_plain_lines_carry_them_too_and_auto_is_json_without_a_terminal(redactor: Redactor) -> None:
    extra = {"connection": "team/marketing"}
    assert logged(LogFormat.PLAIN, redactor, "so", extra=extra).endswith("ERROR   so [team/marketing]\n")
    assert json.loads(logged(LogFormat.AUTO, redactor, "so"))["message"] == "so"


@pytest.mark.usefixtures("_keep_logging")
@pytest.mark.parametrize(("level", "shown"), [(LogLevel.INFO, False), (LogLevel.DEBUG, True)])
def test_what_psycopg_says_in_the_wake_of_an_error_is_shown_to_those_who_debug(
    level: LogLevel, shown: bool, redactor: Redactor
) -> None:
    stream = io.StringIO()
    configure(LogFormat.JSON, level, redactor, stream)
    logging.getLogger("psycopg").warning("error ignored terminating %r", "a pipeline")
    assert ("a pipeline" in stream.getvalue()) is shown
    logging.getLogger("psycopg").error("broken")
    assert "broken" in stream.getvalue()
