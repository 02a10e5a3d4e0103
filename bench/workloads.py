"""What is measured: databases full of tables, and who is to read them."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from lakebase_operator.api import AccessGrant
from lakebase_operator.external.postgres.session import Connection

DATABASE = "bench"


@dataclass(frozen=True, slots=True)
class Workload:
    """Roles × schemas × tables, with SELECT on all tables of some schemas for each role."""

    name: str
    roles: int
    schemas: int
    tables: int
    """In each schema."""
    schemas_per_role: int

    def role(self, number: int) -> str:
        """Name of a role."""
        return f"{self.name.lower()}_role_{number}"

    def schema(self, number: int) -> str:
        """Name of a schema."""
        return f"{self.name.lower()}_schema_{number}"

    def schemas_of(self, role: int) -> list[int]:
        """The schemas that a role reads: neighbours, so that each schema has equally many readers."""
        first = role * self.schemas_per_role
        return sorted({(first + offset) % self.schemas for offset in range(self.schemas_per_role)})

    def readers(self, schema: int) -> list[str]:
        """The roles that read a schema."""
        return [self.role(number) for number in range(self.roles) if schema in self.schemas_of(number)]

    def grants(self) -> Iterator[AccessGrant]:
        """One AccessGrant for each role, as teams would write them."""
        for number in range(self.roles):
            yield AccessGrant.from_object(
                {
                    "metadata": {
                        "name": f"reader-{number}",
                        "namespace": "bench",
                        "uid": f"{self.name}-{number}",
                        "generation": 1,
                    },
                    "spec": {
                        "connectionRef": {"name": "bench"},
                        "database": DATABASE,
                        "subjects": [{"kind": "Role", "name": self.role(number)}],
                        "access": "Read",
                        "objects": [
                            {"tables": {"schema": self.schema(schema), "matching": ["*"]}}
                            for schema in self.schemas_of(number)
                        ],
                    },
                }
            )

    async def create(self, connection: Connection) -> None:
        """Roles, schemas and tables, without any grant."""
        await connection.execute(
            sql.SQL(
                "DO $$ BEGIN"
                " FOR r IN 0..{roles} LOOP EXECUTE format('CREATE ROLE %I LOGIN', {role} || r); END LOOP;"
                " FOR s IN 0..{schemas} LOOP EXECUTE format('CREATE SCHEMA %I', {schema} || s);"
                " FOR t IN 1..{tables} LOOP EXECUTE format('CREATE TABLE %I.%I (id bigint)', {schema} || s, 'table_' || t);"
                " END LOOP; END LOOP; END $$"
            ).format(
                roles=sql.Literal(self.roles - 1),
                role=sql.Literal(f"{self.name.lower()}_role_"),
                schemas=sql.Literal(self.schemas - 1),
                schema=sql.Literal(f"{self.name.lower()}_schema_"),
                tables=sql.Literal(self.tables),
            )
        )

    async def by_hand(self, connection: Connection) -> None:
        """The limit: a hand-written transaction with one GRANT per schema to all its roles."""
        async with connection.transaction(), connection.pipeline():
            for number in range(self.schemas):
                schema = sql.Identifier(self.schema(number))
                readers = sql.SQL(", ").join(sql.Identifier(role) for role in self.readers(number))
                await connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, readers))
                await connection.execute(
                    sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, readers)
                )


WORKLOADS = (
    Workload("W1", roles=300, schemas=10, tables=100, schemas_per_role=10),
    Workload("W2", roles=2000, schemas=200, tables=10, schemas_per_role=2),
)
