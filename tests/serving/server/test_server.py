"""The server as a process, with real models, signals and files."""

import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.models import save_halves
from tests.serving.twin import COMMAND, ROOT, serving

pytestmark = pytest.mark.e2e


def ask(channel, value=1.0, timeout=60, **spec):
    request = predict_pb2.PredictRequest(model_spec={"name": "halves", **spec})
    array = np.array([value], np.float32)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(request, timeout=timeout)


def get(doors, path):
    with urllib.request.urlopen(f"http://{doors.rest}{path}", timeout=60) as answer:
        return answer.read().decode()


def post(doors, path, body):
    data = json.dumps(body).encode()
    with urllib.request.urlopen(f"http://{doors.rest}{path}", data, 60) as answer:
        return json.loads(answer.read())


def eventually(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError


def test_both_doors_answer_and_are_counted(halves, tmp_path):
    with serving({"halves": halves}, tmp_path / "log", "--monitoring") as doors:
        with grpc.insecure_channel(doors.grpc) as channel:
            assert ask(channel).outputs["y"].float_val == [2.5]
        path = "/v1/models/halves:predict"
        found = post(doors, path, {"instances": [1.0, 2.0, 5.0]})
        assert found == {"predictions": [2.5, 3.0, 4.5]}
        status = json.loads(get(doors, "/v1/models/halves"))
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        page = get(doors, "/monitoring/prometheus/metrics")
    # Two predictions, and the status.
    assert ':request_count{model_name="halves",status="OK"} 3' in page
    assert ':runtime_latency_count{model_name="halves",API="Predict",run' in page


def test_no_request_is_lost_while_versions_come_and_go(tmp_path):
    base, wrong, answers = tmp_path / "halves", [], []
    base.mkdir()
    save_halves(base, 1, bias=2.0)
    ended = threading.Event()

    def keep_asking(address):
        with grpc.insecure_channel(address) as channel:
            while not ended.is_set():
                try:
                    response = ask(channel)
                except grpc.RpcError as error:
                    wrong.append(error)
                    return
                version = response.model_spec.version.value
                answers.append(version)
                if response.outputs["y"].float_val != [0.5 + 1 + version]:
                    wrong.append(response)

    log = tmp_path / "log"
    with serving({"halves": base}, log, "--poll-seconds", "0.1") as doors:
        clients = [
            threading.Thread(target=keep_asking, args=(doors.grpc,)) for _ in range(4)
        ]
        for client in clients:
            client.start()
        for version in (2, 3):
            save_halves(base, version, bias=version + 1.0)
            eventually(lambda version=version: answers[-1:] == [version])
        # One that does not load leaves the last one serving, and says why.
        (base / "4").mkdir()
        eventually(lambda: "version 4" in log.read_text().lower())
        # A rollback: the newest is taken away.
        shutil.rmtree(base / "4")
        (base / "3").rename(tmp_path / "gone")
        eventually(lambda: answers[-1:] == [2])
        ended.set()
        for client in clients:
            client.join(60)
    assert not wrong
    assert {1, 2, 3} == set(answers)


def test_sigterm_answers_what_is_in_work(halves, tmp_path):
    batching = tmp_path / "batching"
    # A request waits five seconds for others that do not come.
    batching.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 5000000 }"
    )
    log = tmp_path / "log"
    flags = ("--batching-parameters-file", str(batching))
    with serving({"halves": halves}, log, *flags) as doors:
        with grpc.insecure_channel(doors.grpc) as channel:
            request = predict_pb2.PredictRequest(model_spec={"name": "halves"})
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            grpc.channel_ready_future(channel).result(60)
            call = stub.Predict.future(request, timeout=60)
            time.sleep(1)
            assert not call.done()
            doors.process.send_signal(signal.SIGTERM)
            assert call.result().outputs["y"].float_val == [2.5]
            assert doors.process.wait(60) == 0
    assert log.read_text().splitlines()[-1] == "Stopped."


class Slow(tf.Module):
    """Runs for minutes."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        def step(i, m):
            return i + 1, tf.linalg.normalize(tf.matmul(m, m))[0]

        start = (0, tf.eye(200) + x[0])
        return {"y": tf.while_loop(lambda i, m: i < 10**6, step, start)[1]}


@pytest.mark.parametrize("batches", [False, True])
def test_what_runs_longer_than_the_drain_loses_its_answer_and_crashes_nothing(
    tmp_path, batches
):
    model, base, flags = Slow(), tmp_path / "slow", ["--drain-seconds", "0.5"]
    tf.saved_model.save(model, str(base / "1"), signatures=model.__call__)
    if batches:
        (tmp_path / "batching").write_text("max_batch_size { value: 8 }")
        flags += ["--batching-parameters-file", str(tmp_path / "batching")]
    log = tmp_path / "log"
    with pytest.raises(AssertionError):  # as it does not end with 0
        with serving({"halves": base}, log, *flags) as doors:
            with grpc.insecure_channel(doors.grpc) as channel:
                grpc.channel_ready_future(channel).result(60)
                request = predict_pb2.PredictRequest(model_spec={"name": "halves"})
                request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                call = stub.Predict.future(request)
                time.sleep(1)
                doors.process.send_signal(signal.SIGTERM)
                assert doors.process.wait(60) == 1
                with pytest.raises(grpc.RpcError):
                    call.result()
    assert "with requests in work" in log.read_text().splitlines()[-1]


def test_a_second_signal_ends_it_at_once(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--model", f"m={tmp_path}", "--port", "0", "--rest-port", "0"]
        + ["--drain-seconds", "60"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "No versions" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        second = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # in either order
        assert process.wait(60) in (0, *second)


def test_labels_move_by_a_config_over_the_wire(tmp_path):
    base = tmp_path / "halves"
    base.mkdir()
    save_halves(base, 1, bias=1.0)
    save_halves(base, 2, bias=2.0)
    config = tmp_path / "models"
    config.write_text(
        'model_config_list { config { name: "halves" model_platform: "tensorflow" '
        f'base_path: "{base}" model_version_policy {{ all {{}} }} }} }}'
    )
    flags = ("--model-config-file", str(config))
    log = tmp_path / "log"
    with serving({}, log, *flags) as doors:
        with grpc.insecure_channel(doors.grpc) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            eventually(lambda: "Version 1 of" in log.read_text())
            for stable, canary in ((1, 2), (2, 1)):
                request = model_management_pb2.ReloadConfigRequest()
                model = request.config.model_config_list.config.add(
                    name="halves", model_platform="tensorflow", base_path=str(base)
                )
                model.model_version_policy.all.SetInParent()
                model.version_labels["stable"] = stable
                model.version_labels["canary"] = canary
                stub.HandleReloadConfigRequest(request, timeout=60)
                found = ask(channel, version_label="canary").model_spec.version.value
                assert found == canary
            assert ask(channel, version={"value": 1}).outputs["y"].float_val == [1.5]
            # A config without the model lets it go.
            empty = model_management_pb2.ReloadConfigRequest()
            empty.config.model_config_list.SetInParent()
            stub.HandleReloadConfigRequest(empty, timeout=60)
            with pytest.raises(grpc.RpcError, match="Servable not found"):
                eventually(lambda: not ask(channel))


def run(*flags, timeout=120):
    return subprocess.run(
        [*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--model", "halves={base}", "--port", "{taken}"], "cannot be opened"),
        (["--model", "halves={base}", "--rest-port", "{taken}"], "cannot be opened"),
        (
            ["--model", "halves={base}", "--batching-parameters-file", "/no/file"],
            "/no/file",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(halves, grpc_door, flags, text):
    flags = [word.format(base=halves, taken=grpc_door.port) for word in flags]
    done = run("--port", "0", *flags) if "{taken}" not in flags else run(*flags)
    assert done.returncode == 2 and not done.stdout
    assert text in done.stderr and done.stderr.count("\n") == 1


def test_a_model_that_does_not_load_is_one_error_line(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    flags = ["--port", "0", "--rest-port", "0", "--load-retries", "0"]
    done = run("--model", f"m={tmp_path / 'm'}", *flags)
    assert done.returncode == 2
    assert "Could not find SavedModel" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_signal_before_a_model_is_there_ends_it_well(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--model", f"m={tmp_path}", "--port", "0", "--rest-port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        assert "No versions of servable m found" in first
        process.send_signal(signal.SIGINT)
        assert "Stopped before" in process.communicate(timeout=60)[0]
        assert process.returncode == 0
