import gzip
import re
import threading
import time
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from mmkeras.errors import UserError
from serving.server.configs import SslConfig
from serving.server.errors import ServingError
from serving.server.grpc import server as grpc_server
from serving.server.grpc.server import GrpcServer, address, build_calls, build_handler
from tests.serving.client.certificates import write_certificates
from tests.serving.models import floats
from tests.serving.server.assertions import (
    WAIT_S,
    predict_request,
    rpc_error,
    wait_until,
)
from tests.serving.server.recording_data_plane import RecordingDataPlane

HEALTH = health_pb2.HealthCheckRequest()
MIB = 2**20
CALLS = build_calls(Mock())


def bind(data_plane, port=0, host="127.0.0.1", **settings):
    settings = {"threads": 4, "message_bytes": MIB, **settings}
    return GrpcServer(data_plane, host, port, **settings)


@pytest.fixture
def recorder(data_plane):
    return RecordingDataPlane(data_plane)


@pytest.fixture
def serve(recorder):
    """Starts servers; returns each one with a channel."""
    servers, channels = [], []

    def serve(**settings):
        servers.append(bind(recorder, **settings))
        servers[-1].start()
        channels.append(grpc.insecure_channel(f"127.0.0.1:{servers[-1].port}"))
        return servers[-1], channels[-1]

    yield serve
    recorder.gate.set()
    for channel in channels:
        channel.close()
    for server in servers:
        server.stop(0)


def predict_of(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def predict(channel, timeout=WAIT_S, name="halves"):
    response = predict_of(channel)(predict_request([1], name), timeout=timeout)
    assert response.outputs["y"].float_val == [2.5]


def call_bytes(channel, call, data, **settings):
    method = channel.unary_unary(f"/tensorflow.serving.{call.service}/{call.name}")
    return rpc_error(method, data, **{"timeout": WAIT_S, **settings})


@pytest.fixture
def start_predict(recorder):
    """Starts requests that wait for the gate; returns their futures."""

    def start(channel, count=1):
        recorder.gate.clear()
        request = predict_request([1])
        calls = [
            predict_of(channel).future(request, timeout=WAIT_S) for _ in range(count)
        ]
        wait_until(lambda: len(recorder.requests) == count)
        return calls

    return start


def health_of(channel):
    return health_pb2_grpc.HealthStub(channel)


def test_examples_are_classified_and_regressed(serve):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(serve()[1])
    data = {"example_list": {"examples": [floats(1)]}}
    spec = {"name": "halves", "signature_name": "classify"}
    request = ClassificationRequest(model_spec=spec, input=data)
    (row,) = stub.Classify(request, timeout=WAIT_S).result.classifications
    assert row.classes[1].label == "high"
    task = {"model_spec": spec, "method_name": "tensorflow/serving/classify"}
    request = MultiInferenceRequest(tasks=[task], input=data)
    (result,) = stub.MultiInference(request, timeout=WAIT_S).results
    assert list(result.classification_result.classifications) == [row]
    spec["signature_name"] = "regress"
    request = RegressionRequest(model_spec=spec, input=data)
    (row,) = stub.Regress(request, timeout=WAIT_S).result.regressions
    assert row.value == 2.5


def test_requests_are_counted_by_model_and_status(serve, recorder):
    _, channel = serve()
    predict(channel)
    code, details = rpc_error(predict, channel, name="no")
    assert code is grpc.StatusCode.NOT_FOUND and details.endswith("Latest(no)")
    page = recorder.metrics.render()
    for name, code in (("halves", "OK"), ("no", "NOT_FOUND")):
        labels = f'model_name="{name}",status="{code}"'
        assert f":tensorflow:serving:request_count{{{labels}}} 1\n" in page
    latency = ":tensorflow:serving:request_latency_count"
    labels = 'model_name="halves",API="Predict",entrypoint="GRPC"'
    assert f"{latency}{{{labels}}} 1\n" in page
    assert f'{latency}{{model_name="no"' not in page


def test_a_bug_is_an_error_and_the_next_request_is_served(serve, recorder, caplog):
    _, channel = serve()
    recorder.error = ZeroDivisionError()
    assert rpc_error(predict, channel)[0] is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    recorder.error = ServingError(grpc.StatusCode.ABORTED, "é" * 3000)
    assert rpc_error(predict, channel)[1] == "é" * 512 + "...TRUNCATED"
    recorder.error = None
    predict(channel)


def test_the_deadline_is_that_of_the_client(serve, recorder):
    _, channel = serve()
    predict(channel, timeout=20)
    predict(channel, timeout=None)
    first, second = recorder.deadlines
    assert 10 < first.remaining_s() < 21 and second.remaining_s() is None


def test_a_client_that_cancels_ends_the_deadline(serve, recorder, start_predict):
    _, channel = serve()
    (call,) = start_predict(channel)
    call.cancel()
    wait_until(lambda: recorder.deadlines[0].cancelled)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_bytes_that_are_no_message_are_an_error(serve, call):
    code, details = call_bytes(serve()[1], call, b"\xff\xff\xff")
    assert code is grpc.StatusCode.INTERNAL
    assert details == f"The request is no {call.request.DESCRIPTOR.full_name} message"


def test_an_unknown_method_is_unimplemented(serve):
    _, channel = serve()
    for name in ("tensorflow.serving.SessionService/SessionRun", "no.Such/Method"):
        code, _ = rpc_error(channel.unary_unary(f"/{name}"), b"", timeout=WAIT_S)
        assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_compressed_requests_are_read_up_to_the_limit(serve, compression):
    _, channel = serve()
    request = predict_request([1] * 1000, "no").SerializeToString()
    for data, expected in (
        (bytes(2 * MIB), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (request, grpc.StatusCode.NOT_FOUND),
    ):
        code, _ = call_bytes(channel, CALLS[0], data, compression=compression)
        assert code is expected


class Abort:
    """Replaces `ServicerContext.abort`, and records its arguments."""

    def __call__(self, *args):
        self.args = args
        raise ZeroDivisionError


def handle(data_plane, data, remaining_s=None):
    """Calls the handler of Predict; returns the code and text of its error."""
    context = Mock(**{"time_remaining.return_value": remaining_s, "abort": Abort()})
    with pytest.raises(ZeroDivisionError):
        build_handler(CALLS[0], data_plane, 64 * MIB).unary_unary(data, context)
    return context.abort.args


def test_decompression_stops_where_the_shared_memory_ends(recorder):
    with recorder.bytes.try_acquire(4 * MIB):
        code, text = handle(recorder, gzip.compress(bytes(6 * MIB)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    match = re.match(r"Too many bytes .*flight: (\d+) of 8388608", text)
    assert 6 * MIB < int(match[1]) <= 8 * MIB
    with recorder.bytes.try_acquire(8 * MIB):  # all memory was released
        pass


def test_an_expired_call_is_not_parsed(recorder, monkeypatch):
    monkeypatch.setattr(grpc_server, "parse_message", None)
    code, _ = handle(recorder, b"", remaining_s=0.0)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_health_is_reported_by_service(serve):
    _, channel = serve()
    for service in ("", "PredictionService", "ModelService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert health_of(channel).Check(request, timeout=WAIT_S).status == 1
    request = health_pb2.HealthCheckRequest(service="Other")
    code, _ = rpc_error(health_of(channel).Check, request, timeout=WAIT_S)
    assert code is grpc.StatusCode.NOT_FOUND


def test_health_responds_while_all_threads_for_models_are_busy(
    serve, recorder, start_predict
):
    _, channel = serve(threads=2)
    calls = start_predict(channel, 8)
    assert health_of(channel).Check(HEALTH, timeout=WAIT_S).status == 1
    recorder.gate.set()
    assert all(call.result(WAIT_S).outputs for call in calls)


def test_running_requests_are_finished_while_the_server_stops(
    serve, recorder, start_predict
):
    server, channel = serve()
    (call,) = start_predict(channel)
    stopping = threading.Thread(target=server.stop, args=(WAIT_S,))
    stopping.start()
    with pytest.raises(grpc.RpcError) as caught:
        while True:  # until the port is closed
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as late:
                health_of(late).Check(HEALTH, timeout=2)
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    codes += [grpc.StatusCode.CANCELLED]  # a call in the moment of closing
    assert caught.value.code() in codes
    recorder.gate.set()
    assert call.result(WAIT_S).outputs["y"].float_val == [2.5]
    stopping.join(WAIT_S)


def test_watchers_of_the_health_do_not_delay_the_stop(serve):
    server, channel = serve()
    watch = health_of(channel).Watch(HEALTH)
    assert next(watch).status == 1
    start_s = time.monotonic()
    server.stop(60)
    assert time.monotonic() - start_s < 30
    with pytest.raises(grpc.RpcError):
        list(watch)


def test_an_ipv6_address_has_brackets():
    assert address("::1", 8500) == "[::1]:8500"
    assert address("localhost", 8500) == "localhost:8500"


BEGIN = "-----BEGIN CERTIFICATE-----\n"
BAD_KEYS = SslConfig(server_key=f"{BEGIN}no key", server_cert=f"{BEGIN}none")


def test_an_address_or_keys_that_cannot_be_used_are_a_users_mistake(serve, recorder):
    port = serve()[0].port
    for settings, message in (
        ({"port": port}, f"127.0.0.1:{port} cannot be opened"),
        ({"host": "no.such.host.invalid"}, "--host 'no.such.host.invalid' is no addre"),
        ({"ssl": BAD_KEYS}, "the keys of --ssl-config-file cannot be used"),
    ):
        with pytest.raises(UserError, match=message):
            bind(recorder, **settings)


@pytest.mark.parametrize("mutual", [False, True])
def test_only_clients_with_tls_are_served_and_with_mutual_tls_a_certificate(
    serve, tmp_path, mutual
):
    pem = {name: p.read_text() for name, p in write_certificates(tmp_path).items()}
    settings = {"custom_ca": pem["ca"], "client_verify": True} if mutual else {}
    ssl = SslConfig(server_key=pem["server_key"], server_cert=pem["server"], **settings)
    server, plain = serve(ssl=ssl)

    def connect(*client):
        credentials = grpc.ssl_channel_credentials(pem["ca"].encode(), *client)
        return grpc.secure_channel(f"localhost:{server.port}", credentials)

    client = (pem["client_key"].encode(), pem["client"].encode())
    with connect(*(client if mutual else ())) as channel:
        predict(channel)
    rejected = connect() if mutual else plain
    rpc_error(predict, rejected, timeout=5)
    rejected.close()
