"""KServe's InferenceService: known fields, restricted pods, its namespace."""

from tests.serving.deploy.files import DEPLOY, documents, flags
from tests.serving.deploy.manifests import check_restricted, check_schema, kustomize

FOLDER = DEPLOY / "kserve"
# Source: CRDs of KServe 0.15, whose schemas are not installed.
PREDICTOR_FIELDS = {"model", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
PREDICTOR_FIELDS |= {"canaryTrafficPercent"}
MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime", "runtimeVersion"}
MODEL_FIELDS |= {"storageUri"}


def test_the_inference_service_has_known_fields():
    """KServe's fields are checked by name, and all others by the schema of a pod."""
    (document,) = documents(FOLDER / "inferenceservice.yaml")
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(document["spec"]) == {"predictor"}
    predictor = document["spec"]["predictor"]
    model = predictor["model"]
    flags(model["args"])
    assert 0 <= predictor["canaryTrafficPercent"] <= 100
    assert predictor["minReplicas"] <= predictor["maxReplicas"]
    assert set(model.pop("modelFormat")) == {"name", "version"}
    container = {k: v for k, v in model.items() if k not in MODEL_FIELDS}
    pod = {k: v for k, v in predictor.items() if k not in PREDICTOR_FIELDS}
    spec = pod | {"containers": [container | {"name": "kserve-container"}]}
    header = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    check_schema(header | {"spec": spec})
    check_restricted(spec)


def test_the_kustomization_has_the_namespace_and_the_account():
    namespace, account, service = kustomize(FOLDER)
    for document in (namespace, account):
        check_schema(document)
    name = namespace["metadata"]["name"]
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert (name, level) == ("mmkeras", "restricted")
    for document in (account, service):
        assert document["metadata"]["namespace"] == name
    predictor = service["spec"]["predictor"]
    assert account["kind"] == "ServiceAccount"
    assert predictor["serviceAccountName"] == account["metadata"]["name"]
