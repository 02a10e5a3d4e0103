import pytest
import lakebase_operator.engine.catalog as c
from lakebase_operator.external.kube.objects import KubeObjects
from tests.engine_cluster.test_operator import test_own_writes_bring_no_pass as one
import time
@pytest.mark.parametrize("n", range(6))
async def test_dbg(there, kubeconfig, n, monkeypatch):
    ours=[False]
    real=c._differs; take=c.Catalog._take
    def _take(self, kind, body, *, ours=False, force=False):
        monkeypatch.setattr(c, "_others", (lambda f: []) if ours else (lambda f: f))
        return take(self, kind, body, ours=ours, force=force)
    monkeypatch.setattr(c.Catalog, "_take", _take)
    t0=time.time()
    orig=there.client.request
    try:
        await one(there, kubeconfig)
    except BaseException as e:
        for i in range(20):
            b=await there.get("AccessGrant", f"g{i}")
            print(i, b["metadata"].get("finalizers"), b["metadata"]["resourceVersion"], [(m["operation"],m.get("subresource"),m["time"],m["manager"]) for m in b["metadata"]["managedFields"]])
        raise
