"""KServe's InferenceService: known fields, restricted pods, its namespace."""

import copy

import kubernetes_validate
import pytest

from tests.serving.deploy.files import DEPLOY, documents, flags
from tests.serving.deploy.manifests import check_restricted, check_schema, kustomize

FOLDER = DEPLOY / "kserve"
# Source: CRDs of KServe 0.15, whose schemas are not installed.
PREDICTOR_FIELDS = {"model", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
PREDICTOR_FIELDS |= {"canaryTrafficPercent"}
MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime", "runtimeVersion"}
MODEL_FIELDS |= {"storageUri"}


@pytest.fixture
def service():
    (document,) = documents(FOLDER / "inferenceservice.yaml")
    return document


def check_inference_service(document):
    """Checks KServe's fields by name, and all others by the schema of a pod."""
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(document["spec"]) == {"predictor"}
    predictor = copy.deepcopy(document["spec"]["predictor"])
    model = predictor["model"]
    assert 0 <= predictor["canaryTrafficPercent"] <= 100
    assert predictor["minReplicas"] <= predictor["maxReplicas"]
    assert set(model.pop("modelFormat")) == {"name", "version"}
    container = {k: v for k, v in model.items() if k not in MODEL_FIELDS}
    pod = {k: v for k, v in predictor.items() if k not in PREDICTOR_FIELDS}
    spec = pod | {"containers": [container | {"name": "kserve-container"}]}
    header = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    check_schema(header | {"spec": spec})
    check_restricted(spec)


def test_the_inference_service_has_known_fields(service):
    check_inference_service(service)
    flags(service["spec"]["predictor"]["model"]["args"])


def test_the_kustomization_has_the_namespace_and_the_account():
    namespace, account, service = kustomize(FOLDER)
    for document in (namespace, account):
        check_schema(document)
    check_inference_service(service)
    name = namespace["metadata"]["name"]
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert (name, level) == ("mmkeras", "restricted")
    for document in (account, service):
        assert document["metadata"]["namespace"] == name
    predictor = service["spec"]["predictor"]
    assert account["kind"] == "ServiceAccount"
    assert predictor["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("field", ["runAsNonRoot", "seccompProfile", "capabilities"])
def test_a_pod_that_is_not_restricted_is_detected(service, field):
    del service["spec"]["predictor"]["model"]["securityContext"][field]
    with pytest.raises(KeyError, match=field):
        check_inference_service(service)


@pytest.mark.parametrize("keys", [("predictor",), ("predictor", "model")])
def test_an_unknown_field_is_detected(service, keys):
    parent = service["spec"]
    for key in keys:
        parent = parent[key]
    parent["storageUrl"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        check_inference_service(service)
