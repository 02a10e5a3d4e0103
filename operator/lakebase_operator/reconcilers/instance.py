"""What the state of the instance means for a connection and for what waits on it."""

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.status import condition
from lakebase_operator.external.databricks import recognized
from lakebase_operator.reconcilers.report import Report

REASONS: dict[InstanceState, tuple[Reason, str]] = {
    InstanceState.AVAILABLE: (Reason.AVAILABLE, "The database accepts connections."),
    InstanceState.ASLEEP: (Reason.ASLEEP, "The compute is scaled to zero; it wakes on the next connection."),
    InstanceState.STARTING: (
        Reason.INSTANCE_STARTING,
        "The instance is starting. Pending work follows by itself.",
    ),
    InstanceState.UPDATING: (
        Reason.INSTANCE_UPDATING,
        "The instance is being updated. Pending work follows by itself.",
    ),
    InstanceState.FAILING_OVER: (
        Reason.INSTANCE_FAILING_OVER,
        "The instance is failing over to another node. Pending work follows by itself.",
    ),
    InstanceState.STOPPED: (
        Reason.INSTANCE_STOPPED,
        "The instance is stopped. Start it; pending work follows by itself.",
    ),
    InstanceState.DISABLED: (
        Reason.ENDPOINT_DISABLED,
        "The endpoint is disabled, so connecting does not wake it. Enable it; pending work follows by itself.",
    ),
    InstanceState.DELETING: (Reason.INSTANCE_DELETING, "The instance is being deleted."),
    InstanceState.NOT_FOUND: (
        Reason.INSTANCE_NOT_FOUND,
        "The control plane knows no such target. Check spec.target and the operator's rights on it.",
    ),
    InstanceState.UNKNOWN: (
        Reason.INSTANCE_STATE_UNKNOWN,
        "The control plane gives a state that this version does not know. It is asked again shortly.",
    ),
}
"""Reason and message of each state."""


def explain(instance: Instance) -> tuple[Reason, str]:
    """Reason and message, with the control plane's own word."""
    reason, message = REASONS[instance.state]
    if instance.state is InstanceState.NOT_FOUND and instance.detail:
        return reason, instance.detail
    return reason, f"{message} (The control plane says: {instance.detail}.)" if instance.detail else message


def tell(connection: LakebaseConnection, instance: Instance, report: Report) -> None:
    """Conditions and fields that show the state."""
    reason, message = explain(instance)
    report.fact(connection, condition("InstanceAvailable", instance.state.connectable, reason, message))
    report.fields(
        connection,
        {"endpoint": {"host": instance.host, "port": connection.spec.port, "state": instance.state.value}},
    )
    if instance.host is not None and connection.spec.target.server is None:
        known = recognized(instance.host)
        report.fact(
            connection,
            condition(
                "HostRecognized",
                known,
                Reason.SUCCEEDED if known else Reason.HOSTNAME_UNRECOGNIZED,
                ""
                if known
                else f'"{instance.host}" has none of the forms of Databricks\' database hosts. '
                "It is used all the same.",
            ),
        )
