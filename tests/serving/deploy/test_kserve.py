"""The InferenceService by KServe's fields, and all that is applied with it."""

import copy

import kubernetes_validate
import pytest

from tests.serving.deploy.files import DEPLOY, documents, flags
from tests.serving.deploy.manifests import kustomized, restricted, valid

KSERVE_AT = DEPLOY / "kserve"
# Custom resources have no schema here; their fields, by hand, from the CRDs of KServe
# 0.15 and of the Prometheus operator 0.80.
KSERVE = {"model", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
KSERVE |= {"canaryTrafficPercent"}
KSERVE_MODEL = {"modelFormat", "protocolVersion", "runtime", "runtimeVersion"}
KSERVE_MODEL |= {"storageUri"}


def check_inference_service(document):
    """KServe's own fields are known ones; all others are a pod's, by its schema."""
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(document["spec"]) == {"predictor"}
    predictor = copy.deepcopy(document["spec"]["predictor"])
    model = predictor["model"]
    assert 0 <= predictor["canaryTrafficPercent"] <= 100
    assert predictor["minReplicas"] <= predictor["maxReplicas"]
    assert set(model.pop("modelFormat")) == {"name", "version"}
    container = {k: v for k, v in model.items() if k not in KSERVE_MODEL}
    pod = {k: v for k, v in predictor.items() if k not in KSERVE}
    spec = pod | {"containers": [container | {"name": "kserve-container"}]}
    valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
    restricted(spec)


def test_the_inference_service_has_known_fields_only():
    (document,) = documents(KSERVE_AT / "inferenceservice.yaml")
    check_inference_service(document)
    flags(document["spec"]["predictor"]["model"]["args"])


def test_the_inference_service_comes_with_all_that_it_needs():
    namespace, account, service = kustomized(KSERVE_AT)
    for document in (namespace, account):
        valid(document)
    check_inference_service(service)
    name = namespace["metadata"]["name"]
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert (name, enforced) == ("mmkeras", "restricted")
    for document in (account, service):
        assert document["metadata"]["namespace"] == name
    predictor = service["spec"]["predictor"]
    assert account["kind"] == "ServiceAccount"
    assert predictor["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("field", ["runAsNonRoot", "seccompProfile", "capabilities"])
def test_a_server_that_restricted_would_refuse_is_found(field):
    (document,) = documents(KSERVE_AT / "inferenceservice.yaml")
    del document["spec"]["predictor"]["model"]["securityContext"][field]
    with pytest.raises(KeyError, match=field):
        check_inference_service(document)


@pytest.mark.parametrize("place", ["predictor", "model"])
def test_an_unknown_field_of_the_inference_service_is_found(place):
    (document,) = documents(KSERVE_AT / "inferenceservice.yaml")
    predictor = document["spec"]["predictor"]
    (predictor if place == "predictor" else predictor["model"])["storageUrl"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        check_inference_service(document)
