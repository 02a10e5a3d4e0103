"""Statements that change roles, composed with ``psycopg.sql`` only."""

import re
from collections.abc import Iterable, Sequence

from psycopg import sql


def _option(keyword: str, wanted: bool | None) -> Iterable[sql.Composable]:
    if wanted is not None:
        yield sql.SQL(keyword if wanted else f"NO{keyword}")


def role_options(
    *,
    login: bool | None = None,
    create_db: bool | None = None,
    create_role: bool | None = None,
    bypass_rls: bool | None = None,
    inherit: bool | None = None,
    connection_limit: int | None = None,
    valid_until: str | None = None,
    verifier: str | None = None,
) -> Sequence[sql.Composable]:
    """Options of CREATE and ALTER ROLE; what is None is not mentioned.

    Only what changes may be mentioned: a role that is no superuser is refused even for an unchanged
    ``NOBYPASSRLS`` (https://www.postgresql.org/docs/current/sql-alterrole.html).
    """
    options: list[sql.Composable] = [
        *_option("LOGIN", login),
        *_option("CREATEDB", create_db),
        *_option("CREATEROLE", create_role),
        *_option("BYPASSRLS", bypass_rls),
        *_option("INHERIT", inherit),
    ]
    if connection_limit is not None:
        options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(connection_limit)))
    if valid_until is not None:
        options.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(valid_until)))
    if verifier is not None:
        options.append(sql.SQL("PASSWORD {}").format(sql.Literal(verifier)))
    return options


def create_role(name: str, options: Sequence[sql.Composable]) -> sql.Composed:
    """``CREATE ROLE``."""
    return sql.SQL(" ").join([sql.SQL("CREATE ROLE"), sql.Identifier(name), *options])


def create_identity_role(name: str, identity: str, schema: str) -> sql.Composed:
    """A role that a Databricks identity logs in to with OAuth (extension ``databricks_auth``, in ``schema``)."""
    return sql.SQL("SELECT {}({}, {})").format(
        sql.Identifier(schema, "databricks_create_role"), sql.Literal(name), sql.Literal(identity)
    )


def alter_role(name: str, options: Sequence[sql.Composable]) -> sql.Composed:
    """``ALTER ROLE``."""
    return sql.SQL(" ").join([sql.SQL("ALTER ROLE"), sql.Identifier(name), *options])


NAME_LISTS = frozenset({"search_path", "temp_tablespaces"})
FILE_LISTS = frozenset({"local_preload_libraries", "session_preload_libraries"})
"""Parameters whose value is a list, of names or of files: given as one string, it would become a list of one strange name."""

_AS_WITHOUT_QUOTES = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""What PostgreSQL makes of a name without quotes: in UTF-8 it turns only these letters into small ones."""


def parameter_values(parameter: str, value: str) -> tuple[str, ...]:
    """The value of a parameter as PostgreSQL reads it: of a list, its names.

    >>> parameter_values("search_path", '"$user", Sales')
    ('$user', 'sales')
    """
    if parameter.lower() not in NAME_LISTS | FILE_LISTS:
        return (value,)
    small = _AS_WITHOUT_QUOTES if parameter.lower() in NAME_LISTS else {}
    names = re.findall(r'"(?:[^"]|"")*"|[^\s,"]+', value)
    unquoted = (
        name[1:-1].replace('""', '"') if name.startswith('"') else name.translate(small) for name in names
    )
    return tuple(unquoted) or ("",)


def _in_database(database: str | None) -> sql.Composable:
    return sql.SQL("") if database is None else sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))


def set_role_parameter(name: str, parameter: str, value: str, database: str | None = None) -> sql.Composed:
    """``ALTER ROLE … SET``, everywhere or in one database. The parameter may have two parts (``extension.parameter``)."""
    return sql.SQL("ALTER ROLE {}{} SET {} TO {}").format(
        sql.Identifier(name),
        _in_database(database),
        sql.Identifier(*parameter.split(".")),
        sql.SQL(", ").join(sql.Literal(one) for one in parameter_values(parameter, value)),
    )


def reset_role_parameter(name: str, parameter: str, database: str | None = None) -> sql.Composed:
    """``ALTER ROLE … RESET``, everywhere or in one database."""
    return sql.SQL("ALTER ROLE {}{} RESET {}").format(
        sql.Identifier(name), _in_database(database), sql.Identifier(*parameter.split("."))
    )


def comment_on_role(name: str, comment: str | None) -> sql.Composed:
    """``COMMENT ON ROLE``; None takes the comment away."""
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def grant_membership(
    role: str, member: str, *, admin: bool, inherit: bool, set_: bool, grantor: str | None = None
) -> sql.Composed:
    """``GRANT role TO member`` with all three options said (PostgreSQL 16 keeps old ones otherwise).

    ``grantor`` names whose membership is meant where the operator may choose; else PostgreSQL chooses.
    """
    granted_by = sql.SQL("") if grantor is None else sql.SQL(" GRANTED BY {}").format(sql.Identifier(grantor))
    return sql.SQL("GRANT {} TO {} WITH ADMIN {}, INHERIT {}, SET {}{}").format(
        sql.Identifier(role),
        sql.Identifier(member),
        *(sql.SQL(str(flag).upper()) for flag in (admin, inherit, set_)),
        granted_by,
    )


def lend_membership(
    role: str, member: str, *, inherit: bool, set_: bool, grantor: str | None = None
) -> sql.Composed:
    """``GRANT role TO member`` that says nothing of ADMIN: nobody may grant that to itself."""
    granted_by = sql.SQL("") if grantor is None else sql.SQL(" GRANTED BY {}").format(sql.Identifier(grantor))
    return sql.SQL("GRANT {} TO {} WITH INHERIT {}, SET {}{}").format(
        sql.Identifier(role),
        sql.Identifier(member),
        *(sql.SQL(str(flag).upper()) for flag in (inherit, set_)),
        granted_by,
    )


def revoke_membership(role: str, member: str, grantor: str, option: str | None = None) -> sql.Composed:
    """``REVOKE role FROM member``, of what ``grantor`` gave: PostgreSQL keeps the memberships of several grantors apart.

    ``option`` (ADMIN, INHERIT or SET) takes only that away.
    """
    return sql.SQL("REVOKE {}{} FROM {} GRANTED BY {}").format(
        sql.SQL(f"{option} OPTION FOR " if option else ""),
        sql.Identifier(role),
        sql.Identifier(member),
        sql.Identifier(grantor),
    )


def give_back_membership(role: str, operator_role: str) -> sql.Composed:
    """End a membership that the operator gave itself. Without GRANTED BY the grantor is that of the GRANT: the operator, or
    the role through which it has ADMIN option."""
    return sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(operator_role))


def drop_role(name: str) -> sql.Composed:
    """``DROP ROLE``."""
    return sql.SQL("DROP ROLE {}").format(sql.Identifier(name))


def set_local_role(name: str) -> sql.Composed:
    """Act as a role until the end of the transaction or ``RESET ROLE``."""
    return sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(name))


RESET_ROLE = sql.SQL("RESET ROLE")
