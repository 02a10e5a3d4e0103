"""What a LakebaseInstance's status shows of its Lakebase: pure, from what is declared and what the control plane says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakebase_operator.api import LakebaseInstance
from lakebase_operator.api.lakebase_instance import DATABASE, PORT, BranchGrants
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import lakebase_instance as domain
from lakebase_operator.domain.instance import Instance
from lakebase_operator.domain.lakebase_instance import Found, Observation, Setting, SettingRow, Wanted
from lakebase_operator.domain.status import Condition, condition
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.external.databricks import recognized
from lakebase_operator.reconcilers import instance as instances
from lakebase_operator.reconcilers.instance_ref import branches_of, native_logins


@dataclass(frozen=True, slots=True)
class Description:
    """What there is to show."""

    fields: Mapping[str, Any]
    conditions: Sequence[Condition]


def describe(
    instance: LakebaseInstance, declared: Sequence[Wanted], found: Observation, catalog: Catalog
) -> Description:
    """Fields and conditions of the status that do not judge, but show what is."""
    main, serving = found.get(domain.main_resource(instance.spec)), _serving(instance, found)
    rows = domain.rows(declared, found)
    branch = domain.database_resource(instance.spec).parent  # other branches have other data
    replicas = [
        one.read_only_host for one in found.values() if one.read_only_host and one.resource.parent == branch
    ]
    fields = {
        "uid": main.uid if main is not None else None,
        "endpoint": _place(serving),
        "readOnlyHost": replicas[0] if replicas else None,
        "database": DATABASE if main is not None else None,
        "serverVersion": main.version if main is not None else None,
        "settings": [{"name": row.name, "wanted": row.wanted, "effective": row.effective} for row in rows],
        "branches": list(_branches(instance, found, catalog)),
    }
    conditions = [*_availability(serving), _settings_applied(rows)]
    if main is not None:
        conditions.append(_native_login(instance, main, catalog))
    if instance.spec.autoscaling is not None and instance.spec.autoscaling.branches:
        conditions.append(_branch_grants(instance, catalog))
    return Description(fields, conditions)


def _serving(instance: LakebaseInstance, found: Observation, branch: str | None = None) -> Instance | None:
    there = found.get(domain.database_resource(instance.spec, branch))
    return there.instance if there is not None else None


def _place(instance: Instance | None) -> dict[str, Any] | None:
    if instance is None:
        return None
    return {"host": instance.host, "port": PORT, "state": instance.state.value}


def _availability(serving: Instance | None) -> Iterator[Condition]:
    if serving is None:
        yield condition(
            "InstanceAvailable", False, Reason.INSTANCE_NOT_FOUND, "There is no such compute yet."
        )
        return
    yield condition("InstanceAvailable", serving.state.connectable, *instances.explain(serving))
    if serving.host is not None:
        known = recognized(serving.host)
        yield condition(
            "HostRecognized",
            known,
            Reason.SUCCEEDED if known else Reason.HOSTNAME_UNRECOGNIZED,
            ""
            if known
            else f'"{serving.host}" has none of the forms of Databricks\' database hosts. It is used all the same.',
        )


def _settings_applied(rows: Sequence[SettingRow]) -> Condition:
    different = [row for row in rows if not row.agrees]
    return condition(
        "SettingsApplied",
        not different,
        Reason.SETTING_NOT_EFFECTIVE if different else Reason.SETTINGS_APPLIED,
        "; ".join(f"{row.name}: wanted {row.wanted}, is {row.effective or 'unknown'}" for row in different),
    )


def _native_login(instance: LakebaseInstance, main: Found, catalog: Catalog) -> Condition:
    if main.settings.get(Setting.NATIVE_LOGIN):
        message = "Roles may log in with a PostgreSQL password."
        return condition("NativeLogin", True, Reason.NATIVE_LOGIN_ENABLED, message)
    message = "Roles cannot log in with a PostgreSQL password."
    if users := native_logins(instance, catalog):
        message += f" But it is needed by {some(users)}: set spec.nativeLogin: true."
    return condition("NativeLogin", False, Reason.NATIVE_LOGIN_DISABLED, message)


def _branches(instance: LakebaseInstance, found: Observation, catalog: Catalog) -> Iterator[dict[str, Any]]:
    lakebase = instance.spec.autoscaling
    if lakebase is None:
        return
    users = branches_of(instance, catalog)
    for one in lakebase.branches:
        there = found.get(domain.branch_resource(lakebase.project, one.name))
        keepers = [f"{user.metadata.namespace}/{user.metadata.name}" for user in users.get(one.name, ())]
        grants = (
            f"Declared through LakebaseConnection {some(keepers)}."
            if keepers
            else "As they were copied from the source; nothing keeps them equal to anything."
        )
        yield {
            "name": one.name,
            "source": there.source if there is not None else None,
            "sourceTime": there.source_time if there is not None else None,
            "endpoint": _place(_serving(instance, found, one.name)) or {},
            "grants": grants if there is not None else None,
        }


def _branch_grants(instance: LakebaseInstance, catalog: Catalog) -> Condition:
    loose = loose_branches(instance, catalog)
    if not loose:
        message = "A LakebaseConnection points at every declared branch."
        return condition("BranchGrants", True, Reason.GRANTS_MANAGED, message)
    return condition(
        "BranchGrants",
        False,
        Reason.GRANTS_COPIED,
        f"The roles and grants on {some(loose)} are those that the source had when the branch was made; nothing keeps them "
        "equal to anything. To declare what holds there, point a LakebaseConnection at it.",
    )


def loose_branches(
    instance: LakebaseInstance, catalog: Catalog, only: BranchGrants | None = None
) -> list[str]:
    """Declared branches that no connection points at; ``only`` those that expect this of their grants."""
    lakebase = instance.spec.autoscaling
    users = branches_of(instance, catalog)
    return [
        one.name
        for one in (lakebase.branches if lakebase is not None else ())
        if one.name not in users and only in (None, one.grants)
    ]


def some(names: Sequence[str]) -> str:
    """Some names for people."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
