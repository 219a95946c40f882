"""Short runs of the soak and overload benchmarks; durations are not tested."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks import serving_overload, serving_soak
from benchmarks.serving_load import start_server
from benchmarks.version_changes import Releases
from tests.serving.models import save_halves


@pytest.fixture
def version(tmp_path):
    """Folder of a version that computes x / 2 + 2."""
    source = tmp_path / "source"
    source.mkdir()
    return save_halves(source) / "1"


def request_for(value):
    request = predict_pb2.PredictRequest(model_spec={"name": "mmkeras"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([value], np.float32)))
    return request


@pytest.mark.slow
def test_a_soak_loses_no_request_while_versions_change(version, tmp_path):
    releases = Releases(tmp_path / "base", version)
    settings = {"batching": serving_soak.BATCHING}
    plan = serving_soak.Plan(seconds=20, change_s=4, clients=2)
    with start_server("soak", releases.base, *serving_soak.FLAGS, **settings) as server:
        report = serving_soak.soak(server, releases, request_for(1.0), plan)
    assert report.failures == [] and report.missed == []
    kinds = [kind for kind, *_ in report.changes]
    assert kinds[:3] == ["new", "new", "broken"]
    served = {v for kind, v, _ in report.changes if kind != "broken"}
    assert served | {1} == set(report.versions)
    assert all(report.times_ms.values()) and report.samples


def test_a_wrong_response_is_detected(version):
    request = request_for(1.0)
    expected = serving_soak.direct_prediction(version, request)
    assert serving_soak.is_close({"y": [2.5]}, expected)
    assert not serving_soak.is_close({"y": [2.6]}, expected)
    assert not serving_soak.is_close({"y": [2.5, 2.5]}, expected)
    assert not serving_soak.is_close({"z": [2.5]}, expected)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["gRPC", "REST"])
def test_an_overload_is_refused_with_documented_codes_and_ends(version, transport):
    settings = {"batching": serving_overload.BATCHING}
    plan = serving_overload.Plan(seconds=5, short_s=2)
    with start_server(
        "overload", version.parent, *serving_overload.FLAGS, **settings
    ) as server:
        result = serving_overload.overload(server, transport, request_for(1.0), plan)
    assert result.failures == {}
    assert result.overload.ok_ms and result.after.ok_ms
    refused = result.overload.requests - len(result.overload.ok_ms)
    assert refused > 0
