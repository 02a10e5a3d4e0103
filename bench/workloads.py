"""What is measured: databases full of tables, and who is to read them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.objects import Objects
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
            yield self._grant(f"reader-{number}", number, self.schemas_of(number), {"access": "Read"})

    def _grant(
        self, name: str, number: int, schemas: Iterable[int], what: Mapping[str, object]
    ) -> AccessGrant:
        uid = f"{self.name}-{number}" if name.startswith("reader") else f"{self.name}-{name}"
        return AccessGrant.from_object(
            {
                "metadata": {"name": name, "namespace": "bench", "uid": uid, "generation": 1},
                "spec": {
                    "connectionRef": {"name": "bench"},
                    "database": DATABASE,
                    "subjects": [{"kind": "Role", "name": self.role(number)}],
                    "objects": [
                        {"tables": {"schema": self.schema(schema), "matching": ["*"]}} for schema in schemas
                    ],
                    **what,
                },
            }
        )

    def changed(self, grants: list[AccessGrant]) -> tuple[list[AccessGrant], frozenset[str]]:
        """The first schema is taken from ten of its readers, and ten others may also insert there.

        Returns
        -------
        All declarations, and the roles that the change concerns.
        """
        first, second = self._losing(), self._gaining()
        numbers = {f"{self.name}-{number}": number for number in (*first, *second)}
        changed = []
        for grant in grants:
            number = numbers.get(grant.metadata.uid)
            if number in first:
                left = [entry for entry in grant.spec.objects if not self._is_first(entry)]
                if left:
                    spec = grant.spec.model_copy(update={"objects": left})
                    metadata = grant.metadata.model_copy(update={"generation": 2})
                    changed.append(grant.model_copy(update={"metadata": metadata, "spec": spec}))
                continue
            changed.append(grant)
            if number in second:
                changed.append(self._grant(f"writer-{number}", number, [0], {"privileges": ["INSERT"]}))
        return changed, frozenset(self.role(number) for number in (*first, *second))

    async def change_by_hand(self, connection: Connection) -> None:
        """The same change as a hand-written transaction."""
        schema = sql.Identifier(self.schema(0))
        losing = sql.SQL(", ").join(sql.Identifier(self.role(number)) for number in self._losing())
        gaining = sql.SQL(", ").join(sql.Identifier(self.role(number)) for number in self._gaining())
        async with connection.transaction(), connection.pipeline():
            await connection.execute(
                sql.SQL("REVOKE SELECT ON ALL TABLES IN SCHEMA {} FROM {}").format(schema, losing)
            )
            await connection.execute(sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(schema, losing))
            await connection.execute(
                sql.SQL("GRANT INSERT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, gaining)
            )

    def _losing(self) -> list[int]:
        return self._readers_of_first()[:10]

    def _gaining(self) -> list[int]:
        return self._readers_of_first()[10:20]

    def _readers_of_first(self) -> list[int]:
        return [number for number in range(self.roles) if 0 in self.schemas_of(number)]

    def _is_first(self, entry: Objects) -> bool:
        return entry.tables is not None and entry.tables.schema_ == self.schema(0)

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

    def statements_by_hand(self) -> list[sql.Composed]:
        """The limit: what somebody would write who knows it all, one GRANT per schema to all its roles."""
        statements = []
        for number in range(self.schemas):
            schema = sql.Identifier(self.schema(number))
            readers = sql.SQL(", ").join(sql.Identifier(role) for role in self.readers(number))
            statements.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, readers))
            statements.append(
                sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, readers)
            )
        return statements

    @staticmethod
    async def by_hand(connection: Connection, statements: Iterable[sql.Composed]) -> None:
        """Carry out the limit in one transaction."""
        async with connection.transaction(), connection.pipeline():
            for statement in statements:
                await connection.execute(statement)


WORKLOADS = (
    Workload("W1", roles=300, schemas=10, tables=100, schemas_per_role=10),
    Workload("W2", roles=2000, schemas=200, tables=10, schemas_per_role=2),
)
