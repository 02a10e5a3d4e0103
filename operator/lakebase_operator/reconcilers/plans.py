"""``mode: Plan``: what would be done is shown in status and a ConfigMap, and carried out once it is approved."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakebase_operator.api import LakebaseConnection, PostgresRole, UserMapping
from lakebase_operator.api.base import ANNOTATION_APPROVE, MAX_STATUS_ISSUES
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.status import condition
from lakebase_operator.domain.wording import counted
from lakebase_operator.engine.catalog import kind_of
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.grants import digest
from lakebase_operator.reconcilers.role_execution import resource_name

ROLES = "roles"
_PLAIN_BYTES = 900_000
"""A ConfigMap holds 1 MiB; what is longer is compressed."""
_SHOWN_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """What is done in one go: the roles, or the privileges of one database."""

    name: str
    """:data:`ROLES`, or the database."""
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identifies just these statements."""
        return digest(self.name, self.statements)


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """All statements of one connection, in order."""

    parts: tuple[Part, ...]

    def __bool__(self) -> bool:
        return any(part.statements for part in self.parts)

    @property
    def statements(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(statement for part in self.parts for statement in part.statements)

    @property
    def digest(self) -> str:
        """What an approval names: the same statements in the same order, and nothing else."""
        text = "\n".join(part.digest for part in self.parts if part.statements)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def role_statements(self) -> frozenset[str]:
        """Those about roles."""
        return frozenset(text for part in self.parts if part.name == ROLES for text in part.statements)

    @property
    def digests(self) -> frozenset[str]:
        """Of each part."""
        return frozenset(part.digest for part in self.parts)

    def text(self) -> str:
        """As a script for psql; each database has its own part."""
        lines = [f"-- {counted(len(self.statements), 'statement', 'statements')}, digest {self.digest}"]
        for part in self.parts:
            if part.statements:
                lines.append(f"-- {part.name}")
                lines += [f"{statement};" for statement in part.statements]
        return "\n".join(lines) + "\n"

    def is_approved(self, connection: LakebaseConnection) -> bool:
        """Whether somebody has approved just this plan."""
        return connection.metadata.annotations.get(ANNOTATION_APPROVE) == self.digest


def config_map_name(connection: LakebaseConnection) -> str:
    """The ConfigMap that has the whole plan."""
    return f"{connection.metadata.name}-lakebase-plan"


def config_map_data(plan: ConnectionPlan) -> Mapping[str, bytes]:
    """Its content."""
    text = plan.text().encode()
    if len(text) <= _PLAIN_BYTES:
        return {"plan.sql": text}
    return {"plan.sql.gz": gzip.compress(text, mtime=0)}


async def show(
    context: Context, connection: LakebaseConnection, plan: ConnectionPlan, roles: frozenset[str]
) -> None:
    """Tell of a plan that waits for approval, or of none.

    Parameters
    ----------
    context, connection
        The pass.
    plan
        What would be done.
    roles
        PostgresRoles and UserMappings that the plan has statements for, as the change log names them.

    Raises
    ------
    LakebaseError
        The ConfigMap cannot be written.
    """
    name, meta, report = config_map_name(connection), connection.metadata, context.report
    known: Mapping[str, Any] = context.status().get("plan") or {}
    if not plan:
        if known:
            await context.services.kube.delete_config_map(meta.namespace, name)
        report.fields(connection, {"plan": None})
        return
    if known.get("digest") != plan.digest:
        await context.services.kube.apply_config_map(kind_of(connection), meta, name, config_map_data(plan))
    statements = plan.statements
    report.fields(
        connection,
        {
            "plan": {
                "digest": plan.digest,
                "statements": len(statements),
                "first": [text[:_SHOWN_CHARACTERS] for text in statements[:MAX_STATUS_ISSUES]],
                "configMap": name,
            }
        },
    )
    message = (
        f"{counted(len(statements), 'statement waits', 'statements wait')} for approval, to be seen in ConfigMap {name}. "
        "To carry out just that: "
        f"kubectl annotate --overwrite lbc {meta.name} {ANNOTATION_APPROVE}={plan.digest}"
    )
    report.fact(connection, condition("Synced", False, Reason.PLANNED, message))
    report.stalled(connection, Reason.PLANNED, message)
    concerned: tuple[PostgresRole | UserMapping, ...] = (*context.view.roles, *context.view.mappings)
    for one in concerned:
        if resource_name(one) in roles:
            report.planned(
                one, f"Statements for it wait for approval: see the LakebaseConnection {context.view.key}."
            )
