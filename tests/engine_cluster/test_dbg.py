from tests.engine_cluster.test_operator import *
async def test_dbg(there, kubeconfig):
    body=await there.create(there.grant("g"))
    print("created", body["metadata"].get("finalizers"), body.get("status"))
    from lakebase_operator.external.kube.objects import KubeObjects
    from lakebase_operator.api.base import ObjectMeta
    w=[]
    k=KubeObjects(there.client,on_write=lambda kind,b:w.append(b))
    m=ObjectMeta.model_validate(body["metadata"])
    print(await k.add_finalizer("AccessGrant",m), w[-1]["metadata"])
    m=ObjectMeta.model_validate(w[-1]["metadata"])
    st={"observedGeneration":1,"conditions":[{"type":"Ready","status":"True","reason":"Succeeded","message":"","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}
    r=await k.replace_status("AccessGrant",m,st)
    print(r["metadata"].get("finalizers"), (await there.get("AccessGrant","g"))["metadata"].get("finalizers"))
    await there.patch(GRANT, "g", {"metadata": {"finalizers": None}})
