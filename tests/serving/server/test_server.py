"""Tests of the server process with real models, signals and files."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from serving.server.server import log
from tests.serving.models import save_halves
from tests.serving.server.assertions import predict_request, rpc_error, wait_until
from tests.serving.server_process import COMMAND, ROOT, start_server

FREE_PORTS = ("--port", "0", "--rest-port", "0")


def predict_of(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def predict(channel, **spec):
    return predict_of(channel)(predict_request([1], **spec), timeout=60)


def fetch(server, path, body=None):
    data = body and json.dumps(body).encode()
    url = f"http://{server.rest}{path}"
    with urllib.request.urlopen(url, data, 60) as response:
        return response.read().decode()


def test_grpc_and_rest_respond_and_are_counted(halves, tmp_path):
    log = tmp_path / "log"
    with start_server({"halves": halves}, log, "--monitoring") as server:
        with grpc.insecure_channel(server.grpc) as channel:
            for i in range(101):  # they cannot hide the model's counts
                rpc_error(predict, channel, name=f"unknown {i}")
            assert predict(channel).outputs["y"].float_val == [2.5]
        body = {"instances": [1.0, 2.0, 5.0]}
        response = json.loads(fetch(server, "/v1/models/halves:predict", body))
        assert response == {"predictions": [2.5, 3.0, 4.5]}
        status = json.loads(fetch(server, "/v1/models/halves"))
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        page = fetch(server, "/monitoring/prometheus/metrics")
    # Two predictions and the status.
    assert ':request_count{model_name="halves",status="OK"} 3' in page
    assert ':request_count{model_name="other",status="NOT_FOUND"} 1' in page
    assert ':runtime_latency_count{model_name="halves",API="Predict",run' in page


@contextmanager
def running_request(base, tmp_path, *flags):
    """Yields a server and the future of a request that it runs."""
    with start_server({"halves": base}, tmp_path / "log", *flags) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            grpc.channel_ready_future(channel).result(60)
            call = predict_of(channel).future(predict_request([1]), timeout=300)
            with pytest.raises(grpc.FutureTimeoutError):
                call.result(1)
            yield server, call


def batching_flags(tmp_path, text):
    (tmp_path / "batching").write_text(text)
    return "--batching-parameters-file", str(tmp_path / "batching")


def test_a_log_line_is_one_write_so_that_threads_do_not_mix(monkeypatch):
    writes = []
    output = SimpleNamespace(write=writes.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stdout", output)
    log("gRPC: 127.0.0.1:8500")
    assert writes == ["gRPC: 127.0.0.1:8500\n"]


def test_running_requests_are_finished_after_sigterm(halves, tmp_path):
    # A request waits five seconds for others.
    text = "max_batch_size { value: 8 } batch_timeout_micros { value: 5000000 }"
    flags = batching_flags(tmp_path, text)
    with running_request(halves, tmp_path, *flags) as (server, call):
        server.process.send_signal(signal.SIGTERM)
        assert call.result().outputs["y"].float_val == [2.5]
        assert server.process.wait(60) == 0
    assert (tmp_path / "log").read_text().splitlines()[-1] == "Stopped."


class Slow(tf.Module):
    """Model that runs for minutes."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        def step(i, m):
            return i + 1, tf.linalg.normalize(tf.matmul(m, m))[0]

        start = (0, tf.eye(200) + x[0])
        return {"y": tf.while_loop(lambda i, m: i < 10**6, step, start)[1]}


@pytest.mark.parametrize("batches", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_request_longer_than_the_drain_time_is_lost_without_a_crash(
    tmp_path, batches
):
    model, base, flags = Slow(), tmp_path / "slow", ["--drain-seconds", "0.5"]
    tf.saved_model.save(model, str(base / "1"), signatures=model.__call__)
    if batches:
        flags += batching_flags(tmp_path, "max_batch_size { value: 8 }")
    with pytest.raises(AssertionError):  # start_server expects exit code 0
        with running_request(base, tmp_path, *flags) as (server, call):
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 1
            with pytest.raises(grpc.RpcError):
                call.result()
    last_line = (tmp_path / "log").read_text().splitlines()[-1]
    assert "with requests in work" in last_line


@contextmanager
def waiting_server(tmp_path, *flags):
    """Yields a server that waits for the first version of a model."""
    command = [*COMMAND, "--model", f"m={tmp_path}", *FREE_PORTS, *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, text=True) as process:
        assert "No versions of servable m found" in process.stdout.readline()
        yield process


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    with waiting_server(tmp_path, "--drain-seconds", "60") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        codes = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # in either order
        assert process.wait(60) in codes


def test_before_the_models_are_loaded_ports_are_closed_and_a_signal_ends_well(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "socket"
    flags = ("--port", str(port), "--grpc-socket-path", str(path))
    with waiting_server(tmp_path, *flags) as process:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert not path.exists()
        process.send_signal(signal.SIGINT)
        assert "Stopped before" in process.communicate(timeout=60)[0]
        assert process.returncode == 0


def test_labels_are_moved_by_a_reload(tmp_path):
    base = tmp_path / "halves"
    base.mkdir()
    save_halves(base, 1)
    save_halves(base, 2)
    config, log = tmp_path / "models", tmp_path / "log"
    models = """model_config_list { config { name: "halves" base_path: "%s"
    model_platform: "tensorflow" model_version_policy { all {} } %s } }"""
    config.write_text(models % (base, ""))
    label = 'version_labels { key: "canary" value: %d }'
    with (
        start_server({}, log, "--model-config-file", str(config)) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def reload(text):
            request = text_format.Parse(f"config {{ {text} }}", ReloadConfigRequest())
            stub.HandleReloadConfigRequest(request, timeout=60)

        wait_until(lambda: "Version 1 of" in log.read_text())
        for canary in (2, 1):
            reload(models % (base, label % canary))
            response = predict(channel, version_label="canary")
            assert response.model_spec.version.value == canary
        reload("model_config_list {}")
        with pytest.raises(grpc.RpcError, match="Servable not found"):
            wait_until(lambda: not predict(channel))


def test_a_model_that_does_not_load_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    flags = ["--model", f"m={tmp_path / 'm'}", *FREE_PORTS, "--load-retries", "0"]
    done = subprocess.run(
        [*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "Could not find SavedModel" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
