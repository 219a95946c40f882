"""Releases of real versions on the TF Serving-compatible server."""

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from mmkeras.errors import UserError
from serving.deploy.release import main
from tests.serving.models import save_halves
from tests.serving.server_process import start_server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(server, models.config) of versions 1 and 2, which add 1 and 2."""
    folder = tmp_path_factory.mktemp("release")
    base = folder / "models" / "halves"
    for version in (1, 2):
        save_halves(base, version, bias=float(version))
    path = folder / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "halves" base_path: "{base}" '
        'model_platform: "tensorflow" } }\n'
    )
    flags = ("--load-retry-seconds", "0.1")
    with start_server({"halves": base}, folder / "log", *flags) as server:
        yield server, path


def release(server, *words):
    process, path = server
    options = ["--model", "halves", "--config", str(path), "--target", process.grpc]
    return main([*words, *options, "--wait-s", "60"])


def predict(server, label):
    """Returns the output of a label for 0, or the code of the error."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "halves", label
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(0.0)
    with grpc.insecure_channel(server[0].grpc) as channel:
        try:
            response = PredictionServiceStub(channel).Predict(request, timeout=30)
        except grpc.RpcError as error:
            return error.code().name
    return response.outputs["y"].float_val[0]


def test_a_canary_is_served_with_the_stable_version_and_rolled_back(server):
    for words in (["stable", "1"], ["canary", "2"]):
        assert release(server, *words) == 0
    assert (predict(server, "stable"), predict(server, "canary")) == (1.0, 2.0)
    assert release(server, "rollback") == 0
    assert predict(server, "stable") == 1.0
    assert predict(server, "canary") == "INVALID_ARGUMENT"


def test_a_version_that_does_not_load_changes_nothing(server):
    release(server, "stable", "1")
    path = server[1]
    before = path.read_text()
    broken = path.parent / "models" / "halves" / "3"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"none")
    with pytest.raises(UserError, match="version 3 of 'halves' does not load: "):
        release(server, "canary", "3")
    assert path.read_text() == before
    assert predict(server, "stable") == 1.0
    assert predict(server, "canary") == "INVALID_ARGUMENT"
