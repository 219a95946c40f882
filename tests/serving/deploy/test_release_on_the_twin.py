"""A release as a program, on the server of this repository with two real versions."""

import subprocess
import sys

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from tests.serving.models import save_halves
from tests.serving.twin import ROOT, serving

pytestmark = pytest.mark.e2e
COMMAND = (sys.executable, "-m", "serving.deploy.release")


@pytest.fixture
def served(tmp_path):
    """(doors, models.config) of versions 1 and 2, which add 1 and 2."""
    base = tmp_path / "models" / "halves"
    for version in (1, 2):
        save_halves(base, version, bias=float(version))
    path = tmp_path / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "halves" base_path: "{base}" '
        'model_platform: "tensorflow" } }\n'
    )
    hasty = ("--load-retry-seconds", "0.1")
    with serving({"halves": base}, tmp_path / "log", *hasty) as doors:
        yield doors, path


def released(served, *words):
    doors, path = served
    done = subprocess.run(
        [*COMMAND, *words, "--model", "halves", "--config", path]
        + ["--target", doors.grpc, "--wait-s", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stdout + done.stderr


def answer(doors, label):
    """What the version with this label makes of 0; or the code of the error."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "halves", label
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(0.0)
    with grpc.insecure_channel(doors.grpc) as channel:
        try:
            response = PredictionServiceStub(channel).Predict(request, timeout=30)
        except grpc.RpcError as error:
            return error.code().name
    return response.outputs["y"].float_val[0]


def test_a_canary_answers_beside_the_stable_version_and_is_taken_back(served):
    doors, path = served
    for words in (["stable", "1"], ["canary", "2"]):
        code, said = released(served, *words)
        assert code == 0, said
    assert (answer(doors, "stable"), answer(doors, "canary")) == (1.0, 2.0)
    code, said = released(served, "rollback")
    assert code == 0, said
    assert (answer(doors, "stable"), answer(doors, "canary")) == (
        1.0,
        "INVALID_ARGUMENT",
    )


def test_a_version_that_does_not_load_leaves_the_server_as_it_was(served):
    doors, path = served
    assert released(served, "stable", "1")[0] == 0
    before = path.read_text()
    broken = path.parent / "models" / "halves" / "3"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"none")
    code, said = released(served, "canary", "3")
    assert code == 2
    assert "version 3 of 'halves' does not load: " in said
    assert "All is as it was." in said
    assert path.read_text() == before
    assert (answer(doors, "stable"), answer(doors, "canary")) == (
        1.0,
        "INVALID_ARGUMENT",
    )
