"""What the API server takes and what it refuses, and with which words.

Every case is one change to an object that is accepted as it stands.
"""

from typing import Any

import pytest

from lakebase_operator.api.names import RESERVED_CONNECTION_NAMES
from tests.crds.manifests import (
    ABSENT,
    CONNECTION,
    GRANT,
    MAPPING,
    PASSWORD,
    ROLE,
    SERVER,
    connection,
    grant,
    mapping,
    named,
    oauth,
    on,
    role,
    to,
)
from tests.crds.objects import Objects, Refused

LONG_IN_BYTES = "é" * 40
"""40 characters, 80 bytes."""


def case(body: dict[str, Any], message: str | None, *requirements: str, id: str) -> Any:  # noqa: A002 - pytest's word
    marks = [pytest.mark.requirement(*requirements)] if requirements else []
    values = (body,) if message is None else (body, message)
    return pytest.param(*values, marks=marks, id=id)


def refused(body: dict[str, Any], message: str, *requirements: str, id: str) -> Any:  # noqa: A002
    return case(body, message, *requirements, id=id)


def accepted(body: dict[str, Any], *requirements: str, id: str) -> Any:  # noqa: A002
    return case(body, None, *requirements, id=id)


def exactly(*privileges: str) -> dict[str, Any]:
    """Privileges instead of an access level."""
    return {"access": ABSENT, "privileges": list(privileges)}


def shape(member: str, **fields: Any) -> dict[str, Any]:
    """An entry of ``objects``; what is in a schema is in ``a``."""
    fields = {name.rstrip("_"): value for name, value in fields.items()}
    where = {"schema": "a"} if member in ("tables", "sequences", "routines", "types") else {}
    return {member: where | fields}


def columns(*names: str) -> dict[str, Any]:
    return shape("tables", names=["b"], columns=list(names))


def defaults(**fields: Any) -> dict[str, Any]:
    return {"defaultPrivileges": fields}


SHAPES = [
    ("tables", "tables", "SELECT"),
    ("sequences", "sequences", "USAGE"),
    ("routines", "routines", "EXECUTE"),
    ("types", "types", "USAGE"),
    ("schemas", "schemas", "USAGE"),
    ("databases", "databases", "CONNECT"),
    ("languages", "languages", "USAGE"),
    ("foreignDataWrappers", "foreign-data wrappers", "USAGE"),
    ("foreignServers", "foreign servers", "USAGE"),
    ("parameters", "parameters", "SET"),
    ("tablespaces", "tablespaces", "CREATE"),
]
"""Members of ``objects`` that select by name, how messages call them, and a privilege that fits."""
MISFITS = [(member, what, "EXECUTE" if member != "routines" else "USAGE") for member, what, _ in SHAPES]

REFUSED = [
    # the name of a connection
    refused(named(CONNECTION, "a.b"), "metadata.name is the display name and may not contain a period", "R-57", id="period"),
    *(
        refused(named(CONNECTION, word), "may not be one of the reserved words data, connection,", "R-58", id=f"word-{word}")
        for word in RESERVED_CONNECTION_NAMES
    ),
    refused(named(CONNECTION, "a b"), "metadata.name: Invalid value: \"a b\"", "R-59", id="space-in-name"),
    refused(named(CONNECTION, "a/b"), "metadata.name: Invalid value: \"a/b\"", "R-59", id="slash-in-name"),
    refused(named(CONNECTION, "x" * 64), "at most 63 characters", id="long-name"),
    # where the server is
    refused(connection(target={}), "give exactly one of autoscaling, provisioned, server", "R-52", "R-61", id="no-target"),
    refused(
        connection(target={"autoscaling": {"project": "a"}, "provisioned": {"instance": "b"}}),
        "give exactly one of autoscaling, provisioned, server",
        id="two-targets",
    ),
    refused(connection(target=ABSENT), "spec.target: Required value", id="target-missing"),
    refused(connection(target={"server": {}}, auth=PASSWORD), "spec.target.server.host: Required value", "R-61", id="server-without-host"),
    refused(connection(port=0), "spec.port", "R-62", id="port-0"),
    refused(connection(port=65536), "spec.port", "R-62", id="port-65536"),
    refused(connection(databases=[]), "spec.databases", "R-63", id="no-database"),
    refused(connection(databases=["a", "a"]), "spec.databases[1]: Duplicate value", "R-63", id="database-twice"),
    refused(connection(databases=[LONG_IN_BYTES]), "longer than 63 bytes", id="database-long-in-bytes"),
    # the workspace
    refused(connection(workspaceURL=ABSENT), "workspaceURL is needed", "R-64", id="no-workspace"),
    refused(connection(workspaceURL="http://acme.cloud.databricks.com"), "spec.workspaceURL", "R-64", id="http"),
    refused(connection(workspaceURL="https://acme.cloud.databricks.com/"), "spec.workspaceURL", "R-64", id="slash"),
    refused(connection(workspaceURL="https://acme.cloud.databricks.com/sql"), "spec.workspaceURL", "R-64", id="path"),
    refused(connection(workspaceURL="https://me:secret@acme.cloud.databricks.com"), "spec.workspaceURL", "R-64", id="credentials-in-url"),
    refused(connection(workspaceURL="acme.cloud.databricks.com"), "spec.workspaceURL", "R-64", id="no-scheme"),
    # logging in
    refused(connection(auth={}), "give exactly one of oauthM2M, workloadIdentity, password", id="no-auth"),
    refused(connection(auth=oauth("a") | PASSWORD), "give exactly one of oauthM2M", id="two-auths"),
    refused(connection(auth=oauth("")), "spec.auth.oauthM2M.clientID", "R-65", id="empty-client-id"),
    refused(connection(auth=oauth("a b")), "spec.auth.oauthM2M.clientID", "R-65", id="client-id-with-space"),
    refused(
        connection(auth={"oauthM2M": {"clientID": "a"}}),
        "spec.auth.oauthM2M.clientSecretRef: Required value",
        "R-66",
        id="no-reference-to-a-secret",
    ),
    refused(
        connection(auth={"oauthM2M": oauth("a")["oauthM2M"] | {"clientSecret": "s3cret"}}),
        'unknown field "spec.auth.oauthM2M.clientSecret"',
        "R-66",
        id="plain-secret-beside-reference",
    ),
    refused(connection(target=SERVER), "a server target logs in with auth.password", id="oauth-to-a-server"),
    # TLS
    *(
        refused(connection(tls={"mode": mode}), "spec.tls.mode: Unsupported value", "R-90", "R-165", id=f"tls-{mode}")
        for mode in ("disable", "Disable", "allow", "prefer", "")
    ),
    # the rest of a connection
    refused(connection(drift={"interval": "10 minutes"}), "spec.drift.interval", id="interval"),
    refused(connection(drift={"action": "Ignore"}), "spec.drift.action: Unsupported value", id="drift-action"),
    refused(connection(whenAsleep="Poke"), "spec.whenAsleep: Unsupported value", id="when-asleep"),
    refused(connection(deletionPolicy="Delete"), "spec.deletionPolicy: Unsupported value", id="deletion-policy"),
    refused(connection(allowedNamespaces={"from": "Selector"}), "selector goes with from: Selector", id="no-selector"),
    refused(connection(allowedNamespaces={"from": "All", "selector": {"a": "b"}}), "selector goes with from: Selector", id="stray-selector"),
    # roles
    *(
        refused(role(roleName=name), "is reserved by PostgreSQL or Lakebase", "R-81", id=f"role-{name}")
        for name in (
            "public", "PUBLIC", "none", "pg_monitor", "PG_x", "cloud_admin", "databricks_superuser", "neon_superuser",
            "current_user", "authenticator",
        )
    ),
    refused(role(roleName="x" * 64), "spec.roleName: Too long: may not be more than 63 bytes", "R-81", id="role-64"),
    refused(role(roleName=LONG_IN_BYTES), "is longer than 63 bytes", "R-81", id="role-long-in-bytes"),
    refused(role(roleName=""), "spec.roleName", "R-81", id="role-empty"),
    refused(named(ROLE, "x" * 64), "metadata.name is the role's name when spec.roleName is absent: at most 63 bytes", "R-81", id="role-by-long-name"),
    *(
        refused(named(ROLE, name), "and this one is reserved", "R-81", id=f"role-by-name-{name}")
        for name in ("public", "none", "neon", "neon-x")
    ),
    refused(role(identity={"type": "User", "name": "pg_x"}), "is reserved by PostgreSQL or Lakebase", "R-81", id="identity-reserved"),
    refused(role(identity={"type": "Robot", "name": "a"}), "spec.identity.type: Unsupported value", id="identity-type"),
    refused(role(identity={"type": "User", "name": "a"}, login=False), "login cannot be false", id="identity-without-login"),
    refused(role(identity={"type": "User", "name": "a"}, login=True, roleName="b"), "leave roleName out", id="identity-with-other-name"),
    refused(role(memberOf=[{"role": "a"}, {"role": "a"}]), "spec.memberOf[1]: Duplicate value", id="member-twice"),
    refused(role(settings={"a b": "1"}), "keys match", id="setting-name"),
    refused(role(attributes={"connectionLimit": -2}), "spec.attributes.connectionLimit", id="connection-limit"),
    refused(role(attributes={"superuser": True}), 'unknown field "spec.attributes.superuser"', id="superuser"),
    refused(role(connectionRef=ABSENT), "spec.connectionRef: Required value", id="role-without-connection"),
    # people
    refused(mapping(mapping="Explicit"), "postgresUsername goes with mapping: Explicit", id="explicit-without-name"),
    refused(mapping(postgresUsername="a"), "postgresUsername goes with mapping: Explicit", id="name-without-explicit"),
    refused(mapping(mapping="None", postgresUsername="a"), "postgresUsername goes with mapping: Explicit", id="none-with-name"),
    refused(mapping(mapping="Explicit", postgresUsername="pg_x"), "is reserved by PostgreSQL or Lakebase", "R-81", id="mapped-reserved"),
    refused(mapping(mapping="Explicit", postgresUsername="x" * 64), "spec.postgresUsername: Too long", "R-81", id="mapped-long"),
    refused(mapping(user="databricks_superuser"), "is reserved by PostgreSQL or Lakebase", "R-81", id="same-name-reserved"),
    refused(mapping(user="x" * 64), "is longer than 63 bytes", "R-81", id="same-name-long"),
    refused(mapping(mapping="Maybe"), "spec.mapping: Unsupported value", id="mapping-mode"),
    refused(mapping(user=""), "spec.user", id="user-empty"),
    # grants
    refused(grant(access=ABSENT), "give exactly one of access and privileges", id="no-access"),
    refused(grant(privileges=["SELECT"]), "give exactly one of access and privileges", id="access-and-privileges"),
    refused(grant(access="Admin"), "spec.access: Unsupported value", "R-36", id="access-level"),
    refused(grant(access=ABSENT, privileges=["ALL"]), "spec.privileges[0]: Unsupported value", "R-15", "R-36", id="all"),
    refused(grant(access=ABSENT, privileges=["SELECT", "SELECT"]), "spec.privileges[1]: Duplicate value", id="privilege-twice"),
    refused(grant(access=ABSENT, privileges=["USAGE"]), "tables take only the privileges SELECT,", "R-36", id="usage-on-table"),
    refused(on({"schemas": {"names": ["a"]}}, access=ABSENT, privileges=["SELECT"]), "schemas take only the privileges USAGE, CREATE", "R-36", id="select-on-schema"),
    refused(on({"databases": {"names": ["a"]}}, access=ABSENT, privileges=["USAGE"]), "databases take only the privileges CONNECT,", "R-36", id="usage-on-database"),
    refused(on(), "spec.objects", id="no-objects"),
    refused(on({}), "give exactly one of tables, sequences, routines, types, schemas, databases, languages,", id="empty-entry"),
    refused(on({"tables": {"schema": "a", "names": ["b"]}, "schemas": {"names": ["a"]}}), "give exactly one of tables, sequences, routines, types, schemas, databases, languages,", id="two-in-an-entry"),
    refused(on({"rowFilter": {"expression": "true"}}), 'unknown field "spec.objects[0].rowFilter"', "R-36", "R-47", id="unsupported-policy"),
    *(
        refused(on(shape(member, except_=["a"]), **exactly(privilege)), f"name the {what}: names, matching, or both", id=f"{member}-unnamed")
        for member, what, privilege in SHAPES
    ),
    *(
        refused(on(shape(member, names=["a"]), **exactly(wrong)), f"{member} take only the privileges", "R-36", id=f"{wrong}-on-{member}")
        for member, _, wrong in MISFITS
    ),
    *(
        refused(on({"tables": {"schema": schema, "names": ["a"]}}), "is a system schema", "R-183", id=f"tables-in-{schema}")
        for schema in ("pg_catalog", "pg_toast", "information_schema", "neon", "__db_system", "lakebase_operator")
    ),
    *(
        refused(on({member: {"schema": "pg_catalog", "names": ["a"]}}, **exactly(privilege)), "is a system schema", "R-183", id=f"{member}-in-pg_catalog")
        for member, privilege in (("sequences", "USAGE"), ("routines", "EXECUTE"), ("types", "USAGE"))
    ),
    *(
        refused(on(shape(member, names=["a"])), "access speaks of tables, sequences, schemas and databases", "R-36", id=f"access-to-{member}")
        for member in ("routines", "types", "languages", "foreignDataWrappers", "foreignServers", "parameters", "tablespaces")
    ),
    *(
        refused(on(defaults(objectType=what, creator="a")), "access speaks of tables,", "R-36", id=f"access-to-new-{what}")
        for what in ("routines", "types", "largeObjects")
    ),
    # columns, large objects, routines, parameters
    refused(on(columns("a"), **exactly("DELETE")), "tables take only the privileges SELECT, INSERT, UPDATE, REFERENCES", "R-36", id="delete-on-columns"),
    refused(on(columns("a", "a")), "columns[1]: Duplicate value", id="column-twice"),
    refused(on(columns()), "columns in body should have at least 1 items", id="no-columns"),
    refused(on(shape("sequences", names=["a"], columns=["b"])), 'unknown field "spec.objects[0].sequences.columns"', "R-36", id="columns-of-a-sequence"),
    refused(on({"largeObjects": {"ids": [0]}}, **exactly("SELECT")), "ids[0]", id="large-object-0"),
    refused(on({"largeObjects": {"ids": [1, 1]}}, **exactly("SELECT")), "ids[1]: Duplicate value", id="large-object-twice"),
    refused(on({"largeObjects": {"ids": []}}, **exactly("SELECT")), "largeObjects.ids", id="no-large-object"),
    refused(on({"largeObjects": {"ids": [1]}}), "access speaks of tables,", id="access-to-large-objects"),
    refused(on({"largeObjects": {"ids": [1]}}, **exactly("USAGE")), "largeObjects take only the privileges SELECT, UPDATE", id="usage-on-large-objects"),
    *(
        refused(on(shape("routines", names=[name]), **exactly("EXECUTE")), "routines.names[0]", id=f"routine-{number}")
        for number, name in enumerate(("f(", "f)", "(integer)", ""))
    ),
    *(
        refused(on(shape("parameters", names=[name]), **exactly("SET")), "parameters.names[0]", id=f"parameter-{number}")
        for number, name in enumerate(("a b", "1a", "a;b", "a.", ""))
    ),
    # default privileges
    refused(on(defaults(objectType="tables")), "without a creator, name the schema whose creators are meant", id="defaults-of-nobody-anywhere"),
    refused(on(defaults(objectType="views", creator="a")), "objectType: Unsupported value", id="defaults-of-views"),
    refused(on(defaults(creator="a")), "defaultPrivileges.objectType: Required value", id="defaults-of-nothing"),
    refused(on(defaults(objectType="schemas", creator="a", schema="b")), "schemas and large objects are in no schema", id="new-schemas-in-a-schema"),
    refused(on(defaults(objectType="largeObjects", creator="a", schema="b"), **exactly("SELECT")), "schemas and large objects are in no schema", id="new-large-objects-in-a-schema"),
    refused(on(defaults(objectType="tables", schema="pg_catalog")), "is a system schema", "R-183", id="defaults-in-pg_catalog"),
    *(
        refused(on(defaults(objectType=what, creator="a"), **exactly(wrong)), f"new {what} take only the privileges", "R-36", id=f"{wrong}-on-new-{what}")
        for what, wrong in (("tables", "USAGE"), ("sequences", "EXECUTE"), ("routines", "SELECT"), ("types", "CREATE"), ("schemas", "SELECT"), ("largeObjects", "USAGE"))
    ),
    # absence and grant options
    refused(grant(ensure="Absent"), "ensure: Absent needs privileges", id="absent-access"),
    refused(grant(ensure="Absent", newObjects=False, **exactly("SELECT")), "ensure: Absent holds for new objects too", id="absent-for-now"),
    refused(grant(ensure="Maybe"), "spec.ensure: Unsupported value", id="ensure"),
    refused(grant(subjects=[{"kind": "Role", "name": "a"}, {"kind": "Public"}], grantOption=True), "PUBLIC cannot have grant options", id="grant-option-to-public"),
    refused(on({"schemas": {"names": ["sales", "pg_catalog"]}}), "spec.objects[0].schemas.names[1]", "R-183", id="system-schema"),
    refused(on({"tables": {"schema": "a", "names": [LONG_IN_BYTES]}}), "is longer than 63 bytes", id="table-long-in-bytes"),
    refused(to(), "spec.subjects", id="nobody"),
    refused(to({"kind": "User"}), "name goes with kind: User and Role", id="user-without-name"),
    refused(to({"kind": "Public", "name": "a"}), "name goes with kind: User and Role", id="public-with-name"),
    refused(to({"kind": "Group", "name": "a"}), "spec.subjects[0].kind: Unsupported value", id="subject-kind"),
    *(
        refused(to({"kind": "Role", "name": name}), "for everybody write kind: Public", "R-81", id=f"to-{name}")
        for name in ("public", "Public", "pg_read_all_data", "databricks_superuser")
    ),
    refused(to({"kind": "Role", "name": "x" * 64}), "is longer than 63 bytes", "R-81", id="to-a-long-role"),
    refused(grant(notBefore="2030-01-02T00:00:00Z", expiresAt="2030-01-01T00:00:00Z"), "expiresAt must be later than notBefore", id="expires-before-it-begins"),
    refused(grant(expiresAt="tomorrow"), "spec.expiresAt", id="expires-tomorrow"),
    refused(grant(grantOptions=True), 'unknown field "spec.grantOptions"', id="misspelt"),
]  # fmt: skip

ACCEPTED = [
    accepted(CONNECTION, id="connection"),
    accepted(named(CONNECTION, "data1"), "R-58", id="data1"),
    *(accepted(named(CONNECTION, f"{word}s"), "R-58", id=f"{word}s") for word in RESERVED_CONNECTION_NAMES if word != "data"),
    accepted(named(CONNECTION, "a-1"), "R-59", id="letters-digits-hyphen"),
    accepted(connection(target={"provisioned": {"instance": "marketing-db"}}), "R-106", id="provisioned"),
    accepted(connection(host="instance-1f0c.database.cloud.databricks.com"), "R-61", id="expected-host"),
    accepted(connection(target=SERVER, auth=PASSWORD, workspaceURL=ABSENT), id="server"),
    accepted(connection(auth={"workloadIdentity": {"clientID": "a"}}), id="workload-identity"),
    accepted(connection(auth=oauth("not-a-uuid.$€#:/+")), "R-65", id="client-id-of-symbols"),
    *(accepted(connection(tls={"mode": mode}), "R-90", id=f"tls-{mode}") for mode in ("Require", "VerifyCA", "VerifyFull")),
    accepted(connection(databases=["databricks_postgres", "research data"]), id="database-with-space"),
    accepted(connection(drift={"interval": "1h30m"}), id="interval-1h30m"),
    accepted(connection(allowedNamespaces={"from": "Selector", "selector": {"team": "a"}}), id="selector"),
    accepted(ROLE, id="role"),
    accepted(role(roleName='we"ird; name'), "R-179", id="role-that-needs-quotes"),
    accepted(role(roleName="é" * 31), "R-81", id="role-of-62-bytes"),
    accepted(role(memberOf=[{"role": "pg_read_all_data"}]), id="member-of-a-system-role"),
    accepted(role(identity={"type": "Group", "name": "data team"}, login=True), id="identity"),
    accepted(role(settings={"statement_timeout": "30s", "app.tenant": "a"}), id="settings"),
    accepted(MAPPING, id="mapping"),
    accepted(mapping(mapping="Explicit", postgresUsername="Alice"), "R-73", id="explicit"),
    accepted(mapping(mapping="None", user="x" * 200), "R-75", id="none"),
    accepted(GRANT, id="grant"),
    accepted(grant(access="Write"), id="write"),
    accepted(grant(access=ABSENT, privileges=["SELECT", "REFERENCES"]), id="privileges"),
    accepted(to({"kind": "Public"}, {"kind": "Role", "name": "analysts"}), id="public-and-role"),
    accepted(to({"kind": "User", "name": "x" * 200}), id="user-with-a-long-name"),
    accepted(on({"tables": {"schema": "marketing-data", "matching": ["*"], "except": ["*_raw"]}}), id="patterns"),
    accepted(on({"tables": {"schema": "a", "names": ["b"]}}, {"schemas": {"matching": ["*"]}}, {"databases": {"names": ["c"]}}), id="several-kinds-of-objects"),
    *(
        accepted(on(shape(member, **selecting), **exactly(privilege)), "R-35", id=f"{member}-{'-'.join(selecting)}")
        for member, _, privilege in SHAPES
        for selecting in ({"names": ["a"]}, {"matching": ["*"], "except_": ["b"]})
    ),
    *(
        accepted(on(shape(member, names=["a"]), access=level), id=f"{level}-{member}")
        for member in ("tables", "sequences", "schemas", "databases")
        for level in ("Read", "Write")
    ),
    accepted(on(shape("tables", names=["a"]), **exactly("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")), id="all-on-tables"),
    accepted(on(shape("parameters", names=["work_mem", "App.tenant"]), **exactly("SET", "ALTER SYSTEM")), id="parameters"),
    accepted(on(shape("databases", names=["a"]), **exactly("CONNECT", "CREATE", "TEMPORARY")), id="all-on-databases"),
    accepted(on(columns("a", "b c")), id="columns"),
    accepted(on(columns("a"), **exactly("SELECT", "INSERT", "UPDATE", "REFERENCES")), id="all-on-columns"),
    accepted(on({"largeObjects": {"ids": [1, 4294967295]}}, **exactly("SELECT", "UPDATE")), "R-35", id="large-objects"),
    *(
        accepted(on(shape("routines", names=[name]), **exactly("EXECUTE")), id=f"signature-{number}")
        for number, name in enumerate(("f", "f()", "Do It(integer, s.\"My, Type\")", "f(character varying, text[])"))
    ),
    *(
        accepted(on(defaults(objectType=what, creator="a"), **exactly(privilege)), "R-35", id=f"new-{what}")
        for what, privilege in (("tables", "SELECT"), ("sequences", "USAGE"), ("routines", "EXECUTE"), ("types", "USAGE"), ("schemas", "CREATE"), ("largeObjects", "UPDATE"))
    ),
    accepted(on(defaults(objectType="tables", schema="a"), access="Write"), id="defaults-of-all-creators"),
    accepted(on(defaults(objectType="routines", creator="a", schema="b"), **exactly("EXECUTE")), id="defaults-in-a-schema"),
    accepted(grant(ensure="Absent", subjects=[{"kind": "Public"}], **exactly("SELECT")), id="absent-for-public"),
    accepted(grant(ensure="Absent", newObjects=True, grantOption=True, **exactly("SELECT")), id="absent-grant-option"),
    accepted(grant(ensure="Present", newObjects=False), id="present-for-now"),
    accepted(grant(grantOption=True), id="grant-option"),
    accepted(grant(subjects=[{"kind": "Public"}], grantOption=False), id="public-without-grant-option"),
    accepted(grant(notBefore="2030-01-01T00:00:00+02:00", expiresAt="2030-01-01T00:00:00Z"), id="offsets-count"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_the_api_server_refuses_with_a_message_that_says_why(
    objects: Objects, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        objects.create(body, dry_run=True)
    assert message in str(refusal.value)


@pytest.mark.parametrize("body", ACCEPTED)
def test_the_api_server_accepts(objects: Objects, body: dict[str, Any]) -> None:
    assert objects.create(body, dry_run=True)["metadata"]["name"] == body["metadata"]["name"]


LONG_NAMES = [f"{number:03}{'t' * 60}" for number in range(256)]
PATTERNS = [f"{number:03}{'*' * 60}" for number in range(64)]


@pytest.mark.parametrize(
    ("entry", "privileges"),
    [
        (shape("tables", names=LONG_NAMES, matching=PATTERNS, except_=PATTERNS, columns=LONG_NAMES), ["SELECT", "INSERT", "UPDATE", "REFERENCES"]),
        (shape("schemas", names=LONG_NAMES, matching=PATTERNS), ["USAGE", "CREATE"]),
        (shape("routines", names=[f"{name}({'integer, ' * 20}integer)" for name in LONG_NAMES]), ["EXECUTE"]),
        (shape("parameters", names=[f"p{name}" for name in LONG_NAMES]), ["SET", "ALTER SYSTEM"]),
        ({"largeObjects": {"ids": list(range(1, 257))}}, ["SELECT", "UPDATE"]),
        (defaults(objectType="tables", creator="c" * 63, schema="s" * 63), ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"]),
    ],
    ids=["tables", "schemas", "routines", "parameters", "large-objects", "defaults"],
)  # fmt: skip
def test_the_largest_grant_that_the_bounds_allow_is_within_what_rules_may_cost(
    objects: Objects, entry: dict[str, Any], privileges: list[str]
) -> None:
    largest = grant(
        subjects=[{"kind": "Role", "name": f"{number:03}{'r' * 60}"} for number in range(512)],
        objects=[entry] * 32,
        **exactly(*privileges),
    )
    assert len(objects.create(largest, dry_run=True)["spec"]["objects"]) == 32
