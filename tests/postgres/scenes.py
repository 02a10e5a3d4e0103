"""Random catalogs, grants made by hand and declarations, and a simple model of what must come of them.

The model is written without a look at the operator's SQL: names instead of OIDs, sets of single privileges instead of arrays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

import psycopg
from hypothesis import strategies as st
from psycopg import sql

from lakebase_operator.api import AccessGrant
from tests.postgres.objects import PUBLIC as EVERYBODY
from tests.postgres.objects import access_grant, role_subject
from tests.postgres.world import World, run

PUBLIC = "PUBLIC"
OWNERS = ("itself", "made", "inherited", "settable", "stranger")
"""Who owns things: the operator, roles that it can act for in three ways, and one for which it cannot."""
GRANTEES = ("g0", "g1", "g2")
"""Made by others, but for g2, which the operator has made."""
PASSING_ON = ("g1", "g2")
"""May enter the schemas, so they can grant on what they hold with grant option."""
SUBJECTS = (*GRANTEES, "inherited", PUBLIC)

TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
COLUMN = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
PRIVILEGES: Mapping[str, Sequence[str]] = {
    "TABLE": TABLE,
    "COLUMN": COLUMN,
    "SEQUENCE": ("SELECT", "UPDATE", "USAGE"),
    "ROUTINE": ("EXECUTE",),
    "TYPE": ("USAGE",),
    "SCHEMA": ("USAGE", "CREATE"),
    "DATABASE": ("CONNECT", "TEMPORARY"),
    "DEFAULT TABLES": TABLE,
    "DEFAULT SEQUENCES": ("SELECT", "UPDATE", "USAGE"),
    "DEFAULT ROUTINES": ("EXECUTE",),
    "DEFAULT TYPES": ("USAGE",),
}
BY_DEFAULT = {
    ("ROUTINE", "EXECUTE"), ("TYPE", "USAGE"), ("DATABASE", "CONNECT"), ("DATABASE", "TEMPORARY"),
    ("DEFAULT ROUTINES", "EXECUTE"), ("DEFAULT TYPES", "USAGE"),
}  # fmt: skip
"""What PostgreSQL gives PUBLIC."""

KINDS: Mapping[str, tuple[str, str]] = {
    "t": ("TABLE", "CREATE TABLE {s}.{n} (id serial, a int, b int)"),
    "p": ("TABLE", "CREATE TABLE {s}.{n} (id int, a int, b int) PARTITION BY LIST (id)"),
    "v": ("TABLE", "CREATE VIEW {s}.{n} AS SELECT 1 AS id, 2 AS a, 3 AS b"),
    "m": ("TABLE", "CREATE MATERIALIZED VIEW {s}.{n} AS SELECT 1 AS id, 2 AS a, 3 AS b"),
    "q": ("SEQUENCE", "CREATE SEQUENCE {s}.{n}"),
    "f": ("ROUTINE", "CREATE FUNCTION {s}.{n}(int) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "r": ("ROUTINE", "CREATE PROCEDURE {s}.{n}(int) LANGUAGE sql AS 'SELECT 1'"),
    "e": ("TYPE", "CREATE TYPE {s}.{n} AS ENUM ('x')"),
    "d": ("TYPE", "CREATE DOMAIN {s}.{n} AS int"),
}
"""By first letter of the name."""


class Thing(NamedTuple):
    """Something that privileges are held on. Of default privileges: the schema or "", and the creator."""

    kind: str
    schema: str
    name: str
    column: str = ""


class Key(NamedTuple):
    """One item of an ACL."""

    thing: Thing
    grantee: str
    privilege: str
    grantor: str


class Atom(NamedTuple):
    """A privilege of a grantee, whoever gave it; with an asterisk its grant option."""

    thing: Thing
    grantee: str
    privilege: str


State: TypeAlias = Mapping[Key, bool]
"""Whether it is held with grant option."""


def atoms(state: State) -> set[Atom]:
    """What is held."""
    return {atom for key, grantable in state.items() for atom in atoms_of(key, grantable)}


def atoms_of(key: Key, grantable: bool) -> Iterator[Atom]:
    """The privilege, and its grant option."""
    yield Atom(key.thing, key.grantee, key.privilege)
    if grantable:
        yield Atom(key.thing, key.grantee, f"{key.privilege}*")


@dataclass(frozen=True)
class ByHand:
    """Somebody grants or revokes something, if PostgreSQL lets them."""

    grants: bool
    thing: Thing
    privilege: str
    grantee: str
    grantor: str
    """A role, or "" for the owner."""
    option: bool


@dataclass(frozen=True)
class Declared:
    """An AccessGrant."""

    subjects: tuple[str, ...]
    member: str
    selections: tuple[tuple[tuple[str, Any], ...], ...]
    """Fields of each entry."""
    access: str | None
    privileges: tuple[str, ...]
    absent: bool
    option: bool


@dataclass(frozen=True)
class Step:
    """What happens between two passes, and what is declared then."""

    by_hand: tuple[ByHand, ...]
    declared: tuple[Declared, ...]
    focus: frozenset[str] | None
    """A pass that looks only at these comes before."""


@dataclass(frozen=True)
class Scene:
    """What is there, and what happens."""

    schemas: Mapping[str, str]
    """Owner of each."""
    things: Mapping[Thing, str]
    """Owner of each: tables, sequences, routines and types."""
    revoke: bool
    """``unmanagedGrants: Revoke``."""
    narrow: bool
    """Revoke only what grantees and PUBLIC hold."""
    steps: tuple[Step, ...]

    @property
    def partitions(self) -> set[Thing]:
        return {thing for thing in self.things if thing.name.endswith("_part")}

    def owner(self, thing: Thing) -> str:
        """The owner; of default privileges the creator. Empty for what is not of the scene."""
        if thing.kind.startswith("DEFAULT"):
            return thing.name
        if thing.kind == "SCHEMA":
            return self.schemas.get(thing.name, "")
        if thing.kind == "DATABASE":
            return "superuser"
        return self.things.get(thing._replace(kind="TABLE", column="") if thing.column else thing, "")


# -- random ones ----------------------------------------------------------------------------------------------------


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Anything."""
    revoke = draw(st.sampled_from((False, False, True)))
    narrow = draw(st.booleans())
    schemas = {f"s{number}": draw(st.sampled_from(OWNERS)) for number in range(draw(st.integers(1, 2)))}
    things: dict[Thing, str] = {}
    for number in range(draw(st.integers(1, 6))):
        letter, schema = draw(st.sampled_from(sorted(KINDS))), draw(st.sampled_from(sorted(schemas)))
        # Whoever may not enter a schema can do nothing with what they own there: a story of its own.
        owner = schemas[schema] if revoke and not narrow else draw(st.sampled_from(OWNERS))
        name = f"{letter}{number}"
        things[Thing(KINDS[letter][0], schema, name)] = owner
        if letter == "t":
            things[Thing("SEQUENCE", schema, f"{name}_id_seq")] = owner
        if letter == "p":
            things[Thing("TABLE", schema, f"{name}_part")] = owner
    steps = draw(st.lists(step(schemas, things), min_size=1, max_size=3))
    return Scene(schemas, things, revoke, narrow, tuple(steps))


def step(schemas: Mapping[str, str], things: Mapping[Thing, str]) -> st.SearchStrategy[Step]:
    columns = [thing._replace(kind="COLUMN", column="a") for thing in things if thing.kind == "TABLE"]
    defaults = [
        Thing(kind, schema, owner)
        for kind in PRIVILEGES if kind.startswith("DEFAULT")
        for schema in ("", *schemas) for owner in OWNERS[1:3]
    ]  # fmt: skip
    schemata = [Thing("SCHEMA", "", name) for name in schemas]

    @st.composite
    def by_hand(draw: st.DrawFn) -> ByHand:
        group = draw(st.sampled_from((list(things), list(things), columns, schemata, defaults)))
        thing = draw(st.sampled_from(group or schemata))
        return ByHand(
            draw(st.sampled_from((True, True, False))),
            thing,
            draw(st.sampled_from(PRIVILEGES[thing.kind])),
            draw(st.sampled_from(SUBJECTS)),
            draw(st.sampled_from(("", "", *PASSING_ON))),
            draw(st.booleans()),
        )

    return st.builds(
        Step,
        st.lists(by_hand(), max_size=8).map(tuple),
        st.lists(declared(schemas, things), max_size=4).map(tuple),
        st.none() | st.frozensets(st.sampled_from(SUBJECTS), min_size=1, max_size=2),
    )


MEMBERS = {
    "tables": "TABLE", "sequences": "SEQUENCE", "routines": "ROUTINE", "types": "TYPE", "schemas": "SCHEMA",
    "databases": "DATABASE", "defaultPrivileges": "DEFAULT TABLES",
}  # fmt: skip
DEFAULTS = ("tables", "sequences", "routines", "types")


@st.composite
def declared(draw: st.DrawFn, schemas: Mapping[str, str], things: Mapping[Thing, str]) -> Declared:
    there = [member for member, kind in MEMBERS.items() if any(thing.kind == kind for thing in things)]
    member = draw(st.sampled_from((*there, *there, "schemas", "databases", "defaultPrivileges")))
    kind = MEMBERS[member]
    columns = member == "tables" and draw(st.integers(0, 3)) == 0
    default_type = draw(st.sampled_from(DEFAULTS)) if member == "defaultPrivileges" else ""
    if default_type:
        kind = f"DEFAULT {default_type.upper()}"
    absent = draw(st.integers(0, 3)) == 0
    levels = kind in ("TABLE", "SEQUENCE", "SCHEMA", "DATABASE", "DEFAULT TABLES", "DEFAULT SEQUENCES")
    access = draw(st.sampled_from(("Read", "Write", None))) if levels and not absent else None
    possible = COLUMN if columns else PRIVILEGES[kind]
    privileges = (
        ()
        if access
        else tuple(draw(st.lists(st.sampled_from(possible), min_size=1, max_size=3, unique=True)))
    )
    option = draw(st.integers(0, 2)) == 0
    subjects = draw(
        st.lists(st.sampled_from(GRANTEES if option else SUBJECTS), min_size=1, max_size=3, unique=True)
    )
    if absent and kind == "SCHEMA":
        subjects = [one for one in subjects if one != "inherited"] or ["g0"]
    entry = selection(schemas, things, member, default_type, columns=columns)
    return Declared(
        tuple(subjects), member, tuple(draw(st.lists(entry, min_size=1, max_size=2))),
        access, privileges, absent, option,
    )  # fmt: skip


@st.composite
def selection(
    draw: st.DrawFn,
    schemas: Mapping[str, str],
    things: Mapping[Thing, str],
    member: str,
    default_type: str,
    *,
    columns: bool,
) -> tuple[tuple[str, Any], ...]:
    entry: dict[str, Any] = {}
    if member == "databases":
        return (("names", ("here",)),)
    inhabited = sorted({thing.schema for thing in things if thing.kind == MEMBERS[member]})
    schema = draw(st.sampled_from(inhabited or sorted(schemas)))
    if default_type:
        creator = draw(st.sampled_from((None, *OWNERS)))
        entry["objectType"] = default_type
        if creator is not None:
            entry["creator"] = creator
        if creator is None or draw(st.booleans()):
            entry["schema"] = schema
        return tuple(entry.items())
    if member == "schemas":
        names = sorted(schemas)
    else:
        entry["schema"] = schema
        names = [thing.name for thing in things if (thing.kind, thing.schema) == (MEMBERS[member], schema)]
    if names and draw(st.sampled_from((True, True, False))):
        entry["names"] = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)))
    if "names" not in entry or draw(st.integers(0, 2)) == 0:
        globs: tuple[tuple[str, ...], ...] = (("*",), ("*0", "*1"), ("t*", "p*"), ("?2", "?3", "?4"))
        if member == "schemas":
            globs = (("s*",), ("s0",), ("?1", "?2"))  # there are other schemas, too
        entry["matching"] = draw(st.sampled_from(globs))
    if draw(st.integers(0, 3)) == 0:
        entry["except"] = draw(st.sampled_from((("*1",), ("v*", "e*"), ("?0*",))))
    if columns:
        entry["columns"] = draw(st.sampled_from((("a",), ("a", "b"), ("id",))))
    return tuple(entry.items())


def privilege_statement(
    thing: Thing, privilege: str, grantee: str, *, grants: bool, option: bool = False
) -> sql.Composed:
    """GRANT or REVOKE as people type it; default privileges are those of the role that runs it."""
    is_default = thing.kind.startswith("DEFAULT")
    prefix: sql.Composable = sql.SQL("")
    if is_default:
        where = f' IN SCHEMA "{thing.schema}"' if thing.schema else ""
        prefix, what = (
            sql.SQL(f"ALTER DEFAULT PRIVILEGES{where} "),
            sql.SQL(thing.kind.split()[1]) + sql.SQL(""),
        )
    else:
        kind = sql.SQL("TABLE" if thing.kind == "COLUMN" else thing.kind)
        name: sql.Composable = sql.Identifier(*filter(None, (thing.schema, thing.name)))
        what = sql.SQL("{} {}").format(kind, sql.SQL(thing.name) if thing.kind == "LARGE OBJECT" else name)
    return sql.SQL("{prefix}{verb} {option_for}{privilege}{column} ON {what} {to} {grantee}{suffix}").format(
        prefix=prefix,
        verb=sql.SQL("GRANT" if grants else "REVOKE"),
        option_for=sql.SQL("GRANT OPTION FOR " if option and not grants else ""),
        privilege=sql.SQL(privilege),
        column=sql.SQL(" ({})").format(sql.Identifier(thing.column)) if thing.column else sql.SQL(""),
        what=what,
        to=sql.SQL("TO" if grants else "FROM"),
        grantee=sql.SQL(PUBLIC) if grantee == PUBLIC else sql.Identifier(grantee),
        suffix=sql.SQL(
            (" WITH GRANT OPTION" if option else "") if grants else "" if is_default else " CASCADE"
        ),
    )


# -- in a database --------------------------------------------------------------------------------------------------


class Stage:
    """The database in which scenes are set up one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world

    def name(self, text: str) -> str:
        """A role of the scene as the server calls it."""
        match text:
            case "PUBLIC":
                return PUBLIC
            case "itself":
                return self.world.operator
            case "superuser":
                return self.world.server.superuser
            case _:
                return self.world.name(text)

    @property
    def _short(self) -> dict[str, str]:
        known = (*OWNERS, *GRANTEES, "crew", "hall", "superuser")
        return {self.name(text): text for text in known}

    async def clear(self) -> None:
        """Leave nothing of the scene before."""
        world = self.world
        world.remembered.clear()
        await world.run("DROP SCHEMA IF EXISTS s0, s1, lakebase_operator CASCADE")
        for text in (*OWNERS[1:], *GRANTEES, "crew", "hall"):
            if await world.value("SELECT true FROM pg_roles WHERE rolname = %s", self.name(text)):
                if world.prepared:  # DROP OWNED leaves what others than the owner granted
                    await world.run(
                        "SET ROLE databricks_superuser",
                        "REVOKE ALL ON DATABASE {d} FROM {r} CASCADE",
                        "RESET ROLE",
                        d=world.database, r=self.name(text),
                    )  # fmt: skip
                await world.run("DROP OWNED BY {r} CASCADE", "DROP ROLE {r}", r=self.name(text))
        await world.run(
            "GRANT CONNECT, TEMPORARY ON DATABASE {d} TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {o} REVOKE ALL ON TABLES FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {o} REVOKE ALL ON SEQUENCES FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT EXECUTE ON ROUTINES TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT USAGE ON TYPES TO PUBLIC",
            d=world.database, o=world.operator,
        )  # fmt: skip

    async def set_up(self, scene: Scene) -> None:
        """Make roles, schemas and what is in them."""
        await self.clear()
        world = self.world
        async with world.session() as session:
            for text in ("made", "g2"):
                await run(session, "CREATE ROLE {r}", r=self.name(text))
        others = ("inherited", "settable", "stranger", "g0", "g1", "crew", "hall")
        await world.run(*(f"CREATE ROLE {self.name(text)}" for text in others))
        await world.run(
            "GRANT {i} TO {o} WITH INHERIT TRUE, SET FALSE",
            "GRANT {s} TO {o} WITH INHERIT FALSE, SET TRUE",
            "GRANT {c} TO {o}, {i}, {s}, {m}, {t}",
            "GRANT {h} TO {g1}, {g2}",
            o=world.operator, i=self.name("inherited"), s=self.name("settable"), m=self.name("made"),
            t=self.name("stranger"), c=self.name("crew"), h=self.name("hall"), g1=self.name("g1"), g2=self.name("g2"),
        )  # fmt: skip
        for schema, owner in scene.schemas.items():
            await world.run(
                "CREATE SCHEMA {s}",
                "ALTER SCHEMA {s} OWNER TO {o}",
                "GRANT USAGE, CREATE ON SCHEMA {s} TO {c}",
                "GRANT USAGE ON SCHEMA {s} TO {h}",
                s=schema, o=self.name(owner), c=self.name("crew"), h=self.name("hall"),
            )  # fmt: skip
        for thing, owner in scene.things.items():
            if thing.name.endswith("_id_seq"):
                continue
            if thing in scene.partitions:
                parent = thing.name.removesuffix("_part")
                statement = f"CREATE TABLE {{s}}.{{n}} PARTITION OF {{s}}.{parent} DEFAULT"
            else:
                statement = KINDS[thing.name[0]][1]
            what = "MATERIALIZED VIEW" if thing.name[0] == "m" else thing.kind
            await world.run(
                statement, f"ALTER {what} {{s}}.{{n}} OWNER TO {{o}}",
                s=thing.schema, n=thing.name, o=self.name(owner),
            )  # fmt: skip

    async def do(self, scene: Scene, action: ByHand) -> None:
        """Grant or revoke by hand."""
        thing = action.thing
        chosen = "" if thing.kind.startswith("DEFAULT") else action.grantor
        if action.option and action.grants and action.grantee == PUBLIC:
            return
        try:
            async with self.world.admin.transaction():
                await run(self.world.admin, "SET LOCAL ROLE {r}", r=self.name(chosen or scene.owner(thing)))
                await self.world.admin.execute(
                    privilege_statement(
                        thing,
                        action.privilege,
                        self.name(action.grantee),
                        grants=action.grants,
                        option=action.option,
                    )
                )
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation):
            pass  # no grant option; or a circle of grantors

    async def state(self) -> State:
        """All ACLs of the database, but the system's and the operator's own tables."""
        rows = await self.world.rows(STATE)
        short = self._short
        found: dict[Key, bool] = {}
        for kind, schema, name, column, grantee, privilege, grantor, grantable in rows:
            place = name if not kind.startswith("DEFAULT") else short.get(name, name)
            thing = Thing(kind, schema, "here" if kind == "DATABASE" else place, column)
            key = Key(thing, short.get(grantee, grantee), privilege, short.get(grantor, grantor))
            found[key] = grantable
        return found

    async def ledger(self) -> list[Key]:
        """What the ledger says; a grant option has an asterisk."""
        short = self._short
        return [
            Key(
                Thing(kind, schema, "here" if kind == "DATABASE" else short.get(name, name), column),
                short.get(grantee, grantee),
                privilege,
                short.get(grantor, grantor),
            )
            for kind, schema, name, column, grantee, privilege, grantor in await self.world.rows(LEDGER)
        ]

    async def memberships(self) -> list[tuple[Any, ...]]:
        """Of the operator."""
        return await self.world.rows(
            "SELECT roleid::regrole, grantor, admin_option, inherit_option, set_option FROM pg_auth_members"
            " WHERE member = (SELECT oid FROM pg_roles WHERE rolname = %s) ORDER BY 1, 2",
            self.world.operator,
        )

    def grants(self, declarations: Iterable[Declared]) -> Sequence[tuple[AccessGrant, Declared]]:
        """Declarations as AccessGrants. The same place in the list means the same object."""
        return [(self._grant(f"grant-{number}", one), one) for number, one in enumerate(declarations)]

    def _grant(self, name: str, one: Declared) -> AccessGrant:
        entries = []
        for fields in one.selections:
            entry: dict[str, Any] = {
                key: list(value) if isinstance(value, tuple) else value for key, value in fields
            }
            if one.member == "databases":
                entry["names"] = [self.world.database]
            if "creator" in entry:
                entry["creator"] = self.name(str(entry["creator"]))
            entries.append({one.member: entry})
        return access_grant(
            name,
            [
                EVERYBODY if subject == PUBLIC else role_subject(self.name(subject))
                for subject in one.subjects
            ],
            entries,
            one.access,
            database=self.world.database,
            privileges=one.privileges,
            ensure="Absent" if one.absent else "Present",
            grantOption=one.option,
        )


_OBJECTS = """
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, relnamespace AS place, relname::text AS name, '' AS col,
           COALESCE(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl, oid, 0 AS part
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL SELECT 'COLUMN', c.relnamespace, c.relname, a.attname, a.attacl, c.oid, a.attnum
              FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    UNION ALL SELECT 'ROUTINE', pronamespace, proname, '', COALESCE(proacl, acldefault('f', proowner)), oid, 0 FROM pg_proc
    UNION ALL SELECT 'TYPE', t.typnamespace, t.typname, '', COALESCE(t.typacl, acldefault('T', t.typowner)), t.oid, 0
              FROM pg_type t WHERE t.typtype IN ('e', 'd')
    UNION ALL SELECT 'SCHEMA', 0, nspname, '', COALESCE(nspacl, acldefault('n', nspowner)), oid, 0 FROM pg_namespace
    UNION ALL SELECT 'DATABASE', 0, datname, '', COALESCE(datacl, acldefault('d', datdba)), oid, 0
              FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'FOREIGN SERVER', 0, srvname, '', COALESCE(srvacl, acldefault('S', srvowner)), oid, 0 FROM pg_foreign_server
    UNION ALL SELECT 'LARGE OBJECT', 0, oid::text, '', COALESCE(lomacl, acldefault('L', lomowner)), oid, 0
              FROM pg_largeobject_metadata
    UNION ALL SELECT 'DEFAULT ' || t.kind, COALESCE(n.oid, 0), r.rolname, '',
              COALESCE(d.defaclacl, CASE WHEN n.oid IS NULL THEN acldefault(t.def, r.oid) END), r.oid, COALESCE(n.oid, 0)::bigint
              FROM pg_roles r
              CROSS JOIN (VALUES ('TABLES', 'r'::"char", 'r'::"char"), ('SEQUENCES', 'S', 's'), ('ROUTINES', 'f', 'f'),
                                 ('TYPES', 'T', 'T')) AS t(kind, code, def)
              CROSS JOIN (SELECT oid FROM pg_namespace UNION ALL SELECT NULL) AS n
              LEFT JOIN pg_default_acl d ON d.defaclrole = r.oid AND d.defaclobjtype = t.code
                                        AND d.defaclnamespace = COALESCE(n.oid, 0)
"""
STATE = f"""
SELECT o.kind, COALESCE(n.nspname, ''), o.name, o.col,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END, x.privilege_type, pg_get_userbyid(x.grantor),
       x.is_grantable
FROM ({_OBJECTS}) AS o LEFT JOIN pg_namespace n ON n.oid = o.place, aclexplode(o.acl) AS x
WHERE COALESCE(n.nspname, o.name) !~ '^(pg_|information_schema|lakebase_operator|__db_system)'
"""  # from above
LEDGER = f"""
SELECT o.kind, COALESCE(n.nspname, ''), o.name, o.col, CASE g WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g) END, h.privilege,
       pg_get_userbyid(h.grantor)
FROM lakebase_operator.held h CROSS JOIN unnest(h.grantees) AS g
LEFT JOIN ({_OBJECTS}) AS o ON (o.kind, o.oid, o.part) = (h.class, h.objid, h.part)
LEFT JOIN pg_namespace n ON n.oid = o.place
WHERE h.privilege NOT LIKE '-%%'
"""


# -- the model ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What declarations mean."""

    present: frozenset[Atom]
    """Without what is declared absent."""
    absent: frozenset[Atom]


def meaning(scene: Scene, declarations: Iterable[Declared], state: State) -> Wanted:
    """What must be held, and what must not.

    Parameters
    ----------
    scene
        What there is.
    declarations
        What is declared.
    state
        The ACLs: who may create something in a schema.
    """
    present: set[Atom] = set()
    absent: set[Atom] = set()
    for one in declarations:
        for thing, privilege, implied in items(scene, one, state):
            for subject in one.subjects:
                plain = Atom(thing, subject, privilege)
                option = Atom(thing, subject, f"{privilege}*")
                if (
                    thing.kind.startswith("DEFAULT")
                    and thing.schema
                    and subject == thing.name
                    and not one.absent
                ):
                    continue  # whoever makes something has it anyway
                if one.absent:
                    absent |= {option} if one.option else {plain, option}
                else:
                    present |= {plain, option} if one.option and not implied else {plain}
    return Wanted(frozenset(present - absent), frozenset(absent))


def items(scene: Scene, one: Declared, state: State) -> Iterator[tuple[Thing, str, bool]]:
    """Things and privileges of one AccessGrant, and whether they only make others usable."""
    for fields in one.selections:
        entry = dict(fields)
        for thing in selected(scene, one.member, entry, state):
            writable = thing.name[0] in "tp"
            privileges: Sequence[str] = one.privileges
            if one.access == "Read":
                privileges = reading(thing)
            elif one.access == "Write":
                privileges = writing(thing) if writable or thing.kind != "TABLE" else ("SELECT",)
            if "columns" in entry:
                for privilege in privileges:
                    if privilege in COLUMN:
                        for column in entry["columns"]:
                            yield thing._replace(kind="COLUMN", column=column), privilege, False
            else:
                for privilege in privileges:
                    yield thing, privilege, False
            if one.access is None:
                continue
            if thing.kind == "TABLE" and one.access == "Write" and thing.name[0] == "t":
                yield Thing("SEQUENCE", thing.schema, f"{thing.name}_id_seq"), "USAGE", False
            if thing.kind in ("TABLE", "SEQUENCE"):
                yield Thing("SCHEMA", "", thing.schema), "USAGE", True
            if thing.kind in ("TABLE", "SEQUENCE", "SCHEMA"):
                yield Thing("DATABASE", "", "here"), "CONNECT", True


def reading(thing: Thing) -> Sequence[str]:
    return {"SCHEMA": ("USAGE",), "DATABASE": ("CONNECT",)}.get(thing.kind, ("SELECT",))


def writing(thing: Thing) -> Sequence[str]:
    match thing.kind:
        case "TABLE" | "DEFAULT TABLES":
            return TABLE[:5]
        case "SEQUENCE" | "DEFAULT SEQUENCES":
            return PRIVILEGES["SEQUENCE"]
        case _:
            return reading(thing)


def selected(scene: Scene, member: str, entry: Mapping[str, Any], state: State) -> Iterator[Thing]:
    """What an entry of ``objects`` selects."""
    if member == "databases":
        yield Thing("DATABASE", "", "here")
        return
    if member == "defaultPrivileges":
        kind = f"DEFAULT {entry['objectType'].upper()}"
        schema = entry.get("schema", "")
        for creator in [entry["creator"]] if "creator" in entry else creators(scene, schema, state):
            yield Thing(kind, schema, creator)
        return
    if member == "schemas":
        possible = [Thing("SCHEMA", "", name) for name in scene.schemas]
    else:
        possible = [
            thing
            for thing in scene.things
            if (thing.kind, thing.schema) == (MEMBERS[member], entry["schema"])
        ]
    for thing in possible:
        named = thing.name in entry.get("names", ())
        matched = thing not in scene.partitions and _fits(thing, entry.get("matching", ()))
        if (named or matched) and not _fits(thing, entry.get("except", ())):
            yield thing


def _fits(thing: Thing, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(thing.name, glob) for glob in globs)


def creators(scene: Scene, schema: str, state: State) -> set[str]:
    """Whoever owns something in a schema, or may create something there."""
    return (
        {scene.schemas[schema]}
        | {owner for thing, owner in scene.things.items() if thing.schema == schema}
        | {
            key.grantee
            for key in state
            if key.thing == Thing("SCHEMA", "", schema)
            and key.privilege == "CREATE"
            and key.grantee != PUBLIC
            and not key.grantee.startswith("databricks_")
        }
    )
