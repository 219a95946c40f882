"""The soak and the overload of the benchmarks, short: what comes of them, not when."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks import serving_overload, serving_soak
from benchmarks.serving_load import started
from benchmarks.version_changes import Releases
from tests.serving.models import save_halves

pytestmark = pytest.mark.e2e


@pytest.fixture
def version(tmp_path):
    """Folder of a version that answers x / 2 + 2."""
    source = tmp_path / "source"
    source.mkdir()
    return save_halves(source) / "1"


def request_for(value):
    request = predict_pb2.PredictRequest(model_spec={"name": "mmkeras"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([value], np.float32)))
    return request


def batching(tmp_path, text):
    file = tmp_path / "batching"
    file.write_text(text)
    return ("--batching-parameters-file", str(file))


def test_a_soak_loses_no_request_while_versions_change(version, tmp_path):
    releases = Releases(tmp_path / "base", version)
    flags = (*serving_soak.FLAGS, *batching(tmp_path, serving_soak.BATCHING))
    plan = serving_soak.Plan(seconds=20, change_s=4, clients=2)
    with started("soak", releases.base, *flags) as server:
        report = serving_soak.soak(server, releases, request_for(1.0), plan)
    assert report.wrong == [] and report.missed == []
    kinds = [kind for kind, *_ in report.changes]
    assert kinds[:3] == ["new", "new", "broken"]
    served = {v for kind, v, _ in report.changes if kind != "broken"}
    assert served | {1} == set(report.versions)
    assert all(report.times_ms.values()) and report.samples


def test_a_wrong_answer_is_found(version):
    request = request_for(1.0)
    expected = serving_soak.answer_of(version, request)
    assert serving_soak.agrees({"y": [2.5]}, expected)
    assert not serving_soak.agrees({"y": [2.6]}, expected)
    assert not serving_soak.agrees({"y": [2.5, 2.5]}, expected)
    assert not serving_soak.agrees({"z": [2.5]}, expected)


@pytest.mark.parametrize("door", ["gRPC", "REST"])
def test_an_overload_is_refused_by_right_codes_and_ends(version, tmp_path, door):
    flags = (*serving_overload.FLAGS, *batching(tmp_path, serving_overload.BATCHING))
    plan = serving_overload.Plan(seconds=5, short_s=2)
    with started("overload", version.parent, *flags) as server:
        outcome = serving_overload.overload(server, door, request_for(1.0), plan)
    assert outcome.wrong == {}
    assert outcome.over.ok_ms and outcome.after.ok_ms
    refused = outcome.over.asked - len(outcome.over.ok_ms)
    assert refused > 0
