"""Passwords of login roles: making them, judging them, and which login is to have which, when.

A change has three steps, each of which may be the last one before the process ends:

1. the Secret keeps the coming credential beside what is published;
2. the server gets it, and the ledger notes that, in one transaction;
3. the Secret publishes it.

So every password that the server may have is in the Secret, and with two logins what is published always works. Where Databricks
makes the password, the second step is to ask for it, and it can be asked again which one it is.
"""

import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lakebase_operator.api.base import GROUP
from lakebase_operator.api.durations import seconds
from lakebase_operator.api.postgres_role import Logins, Password, PostgresRoleSpec

SYMBOLS = "-._~"
"""Those that stand for themselves in a URI (RFC 3986, section 2.3), in a shell and in a connection string."""
KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, SYMBOLS)

MIN_GIVEN_LENGTH = 12
"""Lakebase's own minimum for a password of mixed kinds."""
MIN_GIVEN_KINDS = 3

COMING = ".next"
"""Key of the Secret that holds the coming credential. It is no name of an environment variable, and a hidden file."""
ANNOTATION_REVISION = f"{GROUP}/revision"
ANNOTATION_SET_AT = f"{GROUP}/set-at"
ANNOTATION_HANDLED = f"{GROUP}/handled-rotate"


def generate_password(length: int = 32) -> str:
    """A random password with at least one letter of each case, one digit and one symbol.

    Raises
    ------
    ValueError
        ``length`` is less than 24.
    """
    if length < 24:
        raise ValueError("a generated password has at least 24 characters")
    alphabet = "".join(KINDS)
    while True:
        password = "".join(secrets.choice(alphabet) for _ in range(length))
        if all(any(one in kind for one in password) for kind in KINDS):
            return password


def weakness(password: str) -> str | None:
    """Why a password that is given is refused, in words that go after "the password"; None: it is not."""
    if any(ord(one) < 32 or ord(one) == 127 for one in password):
        return "has a line break or another control character in it"
    if len(password) < MIN_GIVEN_LENGTH:
        return f"is shorter than {MIN_GIVEN_LENGTH} characters"
    tests = (str.islower, str.isupper, str.isdigit, lambda one: not one.isalnum())
    if sum(any(test(one) for one in password) for test in tests) < MIN_GIVEN_KINDS:
        return f"has fewer than {MIN_GIVEN_KINDS} of: small letters, capital letters, digits, others"
    return None


def logins_of(password: Password) -> Logins:
    """Which roles log in, with the default filled in."""
    return password.logins or (Logins.ONE if password.from_ is not None else Logins.TWO)


def login_names(role_name: str, password: Password) -> tuple[str, ...]:
    """Names of the roles that log in."""
    if logins_of(password) is Logins.ONE:
        return (role_name,)
    return tuple(f"{role_name}_{number}" for number in (1, 2))


def declared_login(spec: PostgresRoleSpec) -> bool | None:
    """Whether the role itself is to have LOGIN; None: nothing is said of it."""
    if spec.suspend:
        return False
    if spec.password is not None:
        return logins_of(spec.password) is Logins.ONE
    return spec.login if spec.login is not None or spec.identity is None else True


@dataclass(frozen=True, slots=True)
class LoginCredential:
    """A login with its password. ``revision`` tells this password from others without saying anything of it."""

    username: str
    revision: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret says of the password."""

    current: LoginCredential | None = None
    """What is published."""
    set_at: datetime | None = None
    coming: LoginCredential | None = None
    handled: str | None = None
    """Value of the annotation that asked for the last change."""

    @classmethod
    def read(cls, values: Mapping[str, bytes], annotations: Mapping[str, str]) -> "Held":
        """From the Secret's data and annotations. What cannot be read is as if it were not there: it is made anew."""
        current = None
        if values.keys() >= {"username", "password"}:
            revision, password = annotations.get(ANNOTATION_REVISION, ""), _text(values["password"])
            if is_revision_of(
                revision, password
            ):  # else somebody has edited the Secret, and this is not what the server has
                current = LoginCredential(_text(values["username"]), revision, password)
        return cls(
            current,
            _moment(annotations.get(ANNOTATION_SET_AT)),
            _coming(values.get(COMING)),
            annotations.get(ANNOTATION_HANDLED),
        )

    def annotations(self) -> dict[str, str]:
        """What goes beside the data."""
        found = {
            ANNOTATION_REVISION: self.current.revision if self.current else None,
            ANNOTATION_SET_AT: self.set_at.astimezone(UTC).isoformat() if self.set_at else None,
            ANNOTATION_HANDLED: self.handled,
        }
        return {key: value for key, value in found.items() if value}

    def coming_data(self) -> dict[str, bytes]:
        """The key of the coming credential, while there is one."""
        if self.coming is None:
            return {}
        one = self.coming
        fields = {"username": one.username, "revision": one.revision, "password": one.password}
        return {COMING: json.dumps(fields).encode()}


def coming_credential(
    held: Held,
    password: Password,
    names: Sequence[str],
    *,
    given: str | None,
    asked: str | None,
    now: datetime,
    last: str | None = None,
) -> LoginCredential | None:
    """The credential that is to be published next; None: what is published stays.

    Parameters
    ----------
    held
        What there is.
    password
        What is declared.
    names
        The roles that log in, from :func:`login_names`.
    given
        The password from ``password.from``; None where it is generated.
    asked
        The annotation that asks for a change.
    now
        The time.
    last
        The login that was published last, as the status says. If the Secret is lost, those who have read it go on using that one.
    """
    current, coming = held.current, held.coming
    if given is not None:
        if coming is not None and coming.password == given and coming.username in names:
            return coming
        if current is not None and current.password == given and current.username in names:
            return None
        return LoginCredential(names[0], new_revision(given), given)
    if coming is not None and coming.username in names:
        return coming
    if current is None or current.username not in names:
        return _generated(_another(names, last), password)
    if is_asked_for(held, asked) or is_due(held, password, now):
        return _generated(_another(names, current.username), password)
    return None


def _another(names: Sequence[str], used: str | None) -> str:
    return next((one for one in names if one != used), names[0])


def is_asked_for(held: Held, asked: str | None) -> bool:
    """Whether the annotation asks for a change that was not made yet."""
    return asked is not None and asked != held.handled


def next_rotation(set_at: datetime, password: Password) -> datetime | None:
    """When a password is due to be replaced; None: never. Not before the overlap with the login before is over."""
    interval = seconds(password.rotation.interval)
    if not interval:
        return None
    if logins_of(password) is Logins.TWO:
        interval = max(interval, seconds(password.rotation.overlap))
    return set_at + timedelta(seconds=interval)


def previous_until(set_at: datetime, password: Password) -> datetime:
    """Until when the login before works on."""
    return set_at + timedelta(seconds=seconds(password.rotation.overlap))


def is_due(held: Held, password: Password, now: datetime) -> bool:
    """Whether what is published is older than it may be. Without a date nobody knows, so it is."""
    if held.set_at is None:
        return True
    due = next_rotation(held.set_at, password)
    return due is not None and now >= due


def _generated(username: str, password: Password) -> LoginCredential:
    text = generate_password(password.generate.length if password.generate else 32)
    return LoginCredential(username, new_revision(text), text)


def new_revision(password: str, salt: str | None = None) -> str:
    """A name for a password, by which it can be recognised; it tells no more than the verifier that the server has."""
    salt = salt or secrets.token_hex(8)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), 4096)
    return f"{salt}.{digest.hex()[:32]}"


def is_revision_of(revision: str, password: str) -> bool:
    """Whether this is the password that a revision was made for."""
    salt, _, digest = revision.partition(".")
    if not re.fullmatch("[0-9a-f]{16}", salt) or not digest:
        return False
    return secrets.compare_digest(new_revision(password, salt), revision)


def _coming(data: bytes | None) -> LoginCredential | None:
    try:
        fields = json.loads(data or b"")
        return LoginCredential(str(fields["username"]), str(fields["revision"]), str(fields["password"]))
    except (ValueError, KeyError, TypeError):
        return None


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
