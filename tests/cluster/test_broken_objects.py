"""Objects that this version cannot read: from an older version of the kinds, or from a newer one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import MERGE_PATCH, Admin, Namespace, current, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, manifest
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CRDS = Path(__file__).parents[2] / "crds"
CONNECTION, READERS = "LakebaseConnection/marketing", "AccessGrant/readers"


@asynccontextmanager
async def anything_goes(admin: Admin, plural: str = "accessgrants") -> AsyncIterator[None]:
    """For a while the API server takes any spec of a kind."""
    crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.lakebase.dev"

    async def versions(loose: bool) -> None:
        strict: list[dict[str, Any]] = yaml.safe_load(yaml.safe_dump(crd["spec"]["versions"]))
        if loose:
            schema = strict[0]["schema"]["openAPIV3Schema"]
            schema.pop("x-kubernetes-validations", None)
            schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        await admin.request("PATCH", path, {"spec": {"versions": strict}}, MERGE_PATCH)

    await versions(loose=True)
    try:
        yield
    finally:
        await versions(loose=False)


async def put_up(there: Namespace, broken: dict[str, Any], plural: str = "accessgrants") -> None:
    """Apply what only the loose kind takes; it becomes loose a moment after it is told to."""

    async def taken() -> bool:
        try:
            await there.apply(broken)
        except AssertionError:
            return False
        return True

    async with anything_goes(there.admin, plural):
        await there.true("the loose kind is served", taken)


async def test_a_broken_grant_is_told_and_holds_up_nobody(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    spec = {"connectionRef": {"name": "marketing"}, "database": sales.name, "subjects": 7, "objects": []}
    await put_up(there, manifest("AccessGrant", "broken", spec))
    body = await there.reason("AccessGrant/broken", "InvalidSpec")
    assert current(body, "Stalled") is not None
    assert "spec.subjects" in message_of(body)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.ready("AccessGrant/writers", CONNECTION)
    assert await sales.may(sales.analysts, "INSERT")
    await there.delete("AccessGrant/writers")
    await there.gone("AccessGrant/writers")
    assert not await sales.may(sales.analysts, "INSERT"), (
        "it never held anything, so others' access may be taken back"
    )
    await there.delete("AccessGrant/broken")
    await there.gone("AccessGrant/broken")


async def test_a_grant_that_breaks_keeps_its_access_and_is_let_go_when_it_is_deleted(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.ready("AccessGrant/writers")
    broken = grant("readers", sales.analysts, database=sales.name)
    broken["spec"]["subjects"] = "everybody"
    await put_up(there, broken)
    await there.reason(READERS, "InvalidSpec")
    assert await sales.may(sales.analysts, "SELECT")
    await there.delete("AccessGrant/writers")
    body = await there.reason("AccessGrant/writers", "DeletionBlocked")
    assert "AccessGrant " in message_of(body)
    assert f"{there.name}/readers" in message_of(body)
    assert await sales.may(sales.analysts, "INSERT"), "it may be declared by what cannot be read"
    await there.delete(READERS)
    await there.gone(READERS, "AccessGrant/writers")
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_broken_grant_that_is_mended_is_carried_out(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    spec = {"connectionRef": {"name": "marketing"}, "database": sales.name, "subjects": 7, "objects": []}
    await put_up(there, manifest("AccessGrant", "writers", spec))
    await there.reason("AccessGrant/writers", "InvalidSpec")
    await there.patch(
        "AccessGrant/writers", grant("writers", sales.analysts, database=sales.name, access="Write")
    )
    await there.ready("AccessGrant/writers")
    assert await sales.may(sales.analysts, "INSERT")
    assert is_ready(await there.get(READERS))


async def test_a_broken_grant_that_cannot_be_cleaned_up_says_so_until_it_can(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    await lab.simulator.set_state("provisioned", "STOPPED")
    broken = grant("readers", sales.analysts, database=sales.name)
    broken["spec"]["subjects"] = "everybody"
    await put_up(there, broken)
    await there.reason(READERS, "InvalidSpec")
    await there.delete(READERS)
    body = await there.reason(READERS, "DeletionBlocked")
    assert "lakebase.dev/abandon" in message_of(body)
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.gone(READERS)
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_broken_connection_holds_its_objects_up_with_a_reason_and_goes_when_it_is_deleted(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    broken = await lab.connection(there, sales)
    broken["spec"]["port"] = "many"
    await put_up(there, broken, "lakebaseconnections")
    body = await there.reason(CONNECTION, "InvalidSpec")
    assert "spec.port" in message_of(body)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.reason("AccessGrant/writers", "ConnectionNotReady")
    assert await sales.may(sales.analysts, "SELECT")
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    assert (await there.told(CONNECTION, "Abandoned"))["type"] == "Warning"
    await there.reason("AccessGrant/writers", "ConnectionNotFound")


async def test_a_catalog_that_is_deleted_waits_for_a_connection_that_cannot_be_read(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.database()
    catalogs, name = lab.simulator.workspace.catalogs, f"{sales.name}_catalog"
    spec = {
        "connectionRef": {"name": "marketing"},
        "catalog": name,
        "database": sales.name,
        "deletionPolicy": "Delete",
    }
    connection = await lab.connection(there, sales)
    await there.apply(connection, manifest("DatabaseCatalog", "sales", spec))
    await there.ready("DatabaseCatalog/sales")
    await operator.stop()  # which forgets how the connection was
    await put_up(there, {**connection, "spec": {**connection["spec"], "port": "many"}}, "lakebaseconnections")
    await operators.start()
    await there.delete("DatabaseCatalog/sales")
    body = await there.reason("DatabaseCatalog/sales", "DeletionBlocked")
    assert "cannot be read" in message_of(body)
    assert name in catalogs
    await there.spec(CONNECTION, port=connection["spec"]["port"])
    await there.gone("DatabaseCatalog/sales")
    assert name not in catalogs


async def test_a_broken_grant_without_a_connection_goes_when_it_is_deleted(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    broken = grant("readers", sales.analysts, database=sales.name)
    broken["spec"]["subjects"] = "everybody"
    await put_up(there, broken)
    await there.reason(READERS, "InvalidSpec")
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    await there.delete(READERS)
    await there.gone(READERS)
