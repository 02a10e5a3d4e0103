"""What is published of a login, as the Service Binding Specification for Kubernetes wants it, and as people need it.

Source: https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from urllib.parse import quote, urlencode

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError

SECRET_TYPE = "servicebinding.io/postgresql"  # noqa: S105  # not a secret but a type of them
CA_KEY = "ca.crt"


@dataclass(frozen=True, slots=True)
class Published:
    """Where an application logs in, and as whom."""

    host: str
    port: int
    database: str
    username: str
    sslmode: str
    """As libpq spells it."""
    schema: str | None
    ca: bytes | None
    """Certificates (PEM) against which the server is checked; None: those that every system has."""
    password: str = field(repr=False)

    @property
    def uri(self) -> str:
        """``postgresql://…``, as libpq and most drivers read it."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(self.database, safe='')}?sslmode={self.sslmode}"

    @property
    def jdbc_uri(self) -> str:
        """For the PostgreSQL JDBC driver, with user and password."""
        parameters = {"user": self.username, "password": self.password, "sslmode": self.sslmode}
        if self.ca is None and self.sslmode != "require":  # else the driver wants a file of certificates
            parameters["sslfactory"] = "org.postgresql.ssl.DefaultJavaSSLFactory"
        query = urlencode(parameters, quote_via=quote)
        return f"jdbc:postgresql://{self.host}:{self.port}/{quote(self.database, safe='')}?{query}"

    @property
    def psql(self) -> str:
        """A command line that asks for the password, or takes it from PGPASSWORD."""
        parameters = {
            "host": self.host,
            "port": str(self.port),
            "dbname": self.database,
            "user": self.username,
            "sslmode": self.sslmode,
        }
        if self.ca is not None:
            parameters["sslrootcert"] = CA_KEY
        elif self.sslmode != "require":
            parameters["sslrootcert"] = "system"
        return "psql " + shlex.quote(
            " ".join(f"{key}={_conninfo(value)}" for key, value in parameters.items())
        )

    def data(self, template: Mapping[str, str]) -> dict[str, bytes]:
        """The data of the Secret.

        Parameters
        ----------
        template
            Further keys and what they hold, with the names of :meth:`names` as ``$name``.

        Raises
        ------
        InvalidError
            A key is one that is published anyway, or a value names something else.
        """
        values = {
            "type": "postgresql",
            "provider": "lakebase",
            "host": self.host,
            "port": str(self.port),
            "database": self.database,
            "username": self.username,
            "password": self.password,
            "uri": self.uri,
            "jdbc-uri": self.jdbc_uri,
            "psql": self.psql,
            "sslmode": self.sslmode,
        }
        if self.schema is not None:
            values["schema"] = self.schema
        names = self.names()
        for key, text in template.items():
            if key in values or key in ("schema", CA_KEY) or key.startswith("."):
                raise InvalidError(
                    Reason.INVALID_SPEC,
                    f'spec.binding.template: the key "{key}" is published anyway, or begins with a dot. Choose another.',
                )
            values[key] = _filled(key, text, names)
        data = {key: value.encode() for key, value in values.items()}
        return data if self.ca is None else {**data, CA_KEY: self.ca}

    def names(self) -> dict[str, str]:
        """What may be named in a template."""
        return {
            "host": self.host,
            "port": str(self.port),
            "database": self.database,
            "schema": self.schema or "",
            "username": self.username,
            "password": self.password,
            "sslmode": self.sslmode,
            "uri": self.uri,
            "jdbc_uri": self.jdbc_uri,
            "psql": self.psql,
            "ca": self.ca.decode(errors="replace") if self.ca else "",
        }


def _filled(key: str, text: str, names: Mapping[str, str]) -> str:
    try:
        return Template(text).substitute(names)
    except KeyError as error:
        raise InvalidError(
            Reason.INVALID_SPEC,
            f'spec.binding.template: "{key}" names ${error.args[0]}; there are {", ".join(f"${one}" for one in names)}.',
        ) from None
    except ValueError:
        raise InvalidError(
            Reason.INVALID_SPEC,
            f'spec.binding.template: "{key}" has a $ that begins no name. Write $$ for a dollar sign.',
        ) from None


def _conninfo(value: str) -> str:
    """A value in a connection string (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING)."""
    if value and not any(one in " '\\" for one in value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
