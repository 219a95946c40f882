import gzip
import re
import socket
import threading
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.input_pb2 import Input

from mmkeras.errors import UserError
from serving.server.configs import SslConfig
from serving.server.errors import ServingError
from serving.server.grpc import server as grpc_server
from serving.server.grpc.addresses import address
from serving.server.grpc.arrivals import ArrivalGate
from serving.server.grpc.server import GrpcServer, build_calls, build_handler
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
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


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


def check_health(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT_S).status


def test_requests_are_counted_and_keep_their_deadline(serve, recorder):
    _, channel = serve()
    predict(channel, timeout=20)
    predict(channel, timeout=None)
    assert 10 < recorder.deadlines[0].remaining_s() < 21
    assert recorder.deadlines[1].remaining_s() is None
    assert rpc_error(predict, channel, name="no")[0] is grpc.StatusCode.NOT_FOUND
    page = recorder.metrics.render()
    assert ':request_count{model_name="halves",status="OK"} 2' in page
    assert ':request_count{model_name="no",status="NOT_FOUND"} 1' in page
    assert ':request_latency_count{model_name="halves",API="Predict",entry' in page


REGRESS = {"name": "halves", "signature_name": "regress"}
TASK = {"model_spec": REGRESS, "method_name": "tensorflow/serving/regress"}


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("Classify", {"model_spec": REGRESS | {"signature_name": "classify"}}, "high"),
        ("Regress", {"model_spec": REGRESS}, "value: 2.5"),
        ("MultiInference", {"tasks": [TASK]}, "value: 2.5"),
    ],
)
def test_examples_are_inferred(serve, name, spec, text):
    (call,) = (call for call in CALLS if call.name == name)
    data = Input(example_list={"examples": [floats(1)]})
    method = getattr(
        prediction_service_pb2_grpc.PredictionServiceStub(serve()[1]), name
    )
    assert text in str(method(call.request(**spec, input=data), timeout=WAIT_S))


def test_a_client_that_cancels_ends_the_deadline(serve, recorder, start_predict):
    (call,) = start_predict(serve()[1])
    assert not recorder.deadlines[0].cancelled
    call.cancel()
    wait_until(lambda: recorder.deadlines[0].cancelled)


def test_a_bug_is_an_error_and_the_next_request_is_served(serve, recorder, caplog):
    _, channel = serve()
    recorder.error = ZeroDivisionError()
    assert rpc_error(predict, channel)[0] is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    recorder.error = ServingError(grpc.StatusCode.ABORTED, "é" * 3000)
    assert rpc_error(predict, channel)[1] == "é" * 512 + "...TRUNCATED"
    recorder.error = None
    predict(channel)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_bytes_that_are_no_message_are_an_error(serve, call):
    code, details = call_bytes(serve()[1], call, b"\xff\xff\xff")
    assert code is grpc.StatusCode.INTERNAL
    assert details == f"The request is no {call.request.DESCRIPTOR.full_name} message"


def test_unknown_methods_and_calls_without_a_message_are_unimplemented(serve):
    _, channel = serve()
    for name in ("tensorflow.serving.SessionService/SessionRun", "no.Such/Method"):
        code, _ = rpc_error(channel.unary_unary(f"/{name}"), b"", timeout=WAIT_S)
        assert code is grpc.StatusCode.UNIMPLEMENTED
    method = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    code, details = rpc_error(method, iter([]), timeout=WAIT_S)
    assert code is grpc.StatusCode.UNIMPLEMENTED and "one request" in details


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_compressed_requests_are_read_up_to_the_limit(serve, compression):
    _, channel = serve()
    request = predict_request([1] * 1000, "no").SerializeToString()
    for data, code in (
        (bytes(2 * MIB), EXHAUSTED),
        (request, grpc.StatusCode.NOT_FOUND),
    ):
        assert call_bytes(channel, CALLS[0], data, compression=compression)[0] is code


class Abort:
    """Replaces `ServicerContext.abort`, and records its arguments."""

    def __call__(self, *args):
        self.args = args
        raise ZeroDivisionError


def handle(data_plane, data, remaining_s=None):
    """Calls the handler of Predict; returns the code and text of its error."""
    context = Mock(**{"time_remaining.return_value": remaining_s, "abort": Abort()})
    gate = ArrivalGate(data_plane.bytes, 2 * MIB, threads=4)
    with pytest.raises(ZeroDivisionError):
        build_handler(CALLS[0], data_plane, gate).stream_unary(iter([data]), context)
    return context.abort.args


def test_decompression_stops_where_the_shared_memory_ends(recorder):
    with recorder.bytes.try_acquire(6 * MIB):
        code, text = handle(recorder, gzip.compress(bytes(2 * MIB)))
    assert code is EXHAUSTED and re.match("Too many bytes", text)
    with recorder.bytes.try_acquire(8 * MIB):  # all memory was released
        pass


def test_an_expired_call_is_not_parsed(recorder, monkeypatch):
    monkeypatch.setattr(grpc_server, "parse_message", None)
    code, _ = handle(recorder, b"", remaining_s=0.0)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_health_is_reported_while_all_threads_for_models_are_busy(
    serve, recorder, start_predict
):
    _, channel = serve(threads=2)
    calls = start_predict(channel, 8)
    for service in ("", "PredictionService", "ModelService"):
        assert check_health(channel, service) == 1
    code, _ = rpc_error(check_health, channel, "Other")
    assert code is grpc.StatusCode.NOT_FOUND
    recorder.gate.set()
    assert all(call.result(WAIT_S).outputs for call in calls)


def no_message(end):
    end.wait(WAIT_S)
    return
    yield


def test_slow_streams_do_not_block_other_clients(serve):
    server, channel = serve(threads=4)
    method = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    end = threading.Event()
    slow = [method.future(no_message(end), timeout=WAIT_S) for _ in range(80)]
    wait_until(lambda: sum(call.done() for call in slow) >= 70)
    for _ in range(5):
        predict(channel)
        assert check_health(channel) == 1
    codes = {call.code() for call in slow if call.done()}
    end.set()
    assert codes == {EXHAUSTED}


def test_running_requests_are_finished_while_the_server_stops(
    serve, recorder, start_predict
):
    server, channel = serve()
    (call,) = start_predict(channel)
    results = []
    stopping = threading.Thread(target=lambda: results.append(server.stop(WAIT_S)))
    stopping.start()
    wait_until(lambda: refuses(server.port))
    recorder.gate.set()
    assert call.result(WAIT_S).outputs["y"].float_val == [2.5]
    stopping.join(WAIT_S)
    assert results == [True]


def test_requests_that_lose_their_answers_are_reported(serve, recorder, start_predict):
    server, channel = serve()
    (call,) = start_predict(channel)
    assert server.stop(0) is False
    rpc_error(call.result)
    assert serve()[0].stop(0) is True


def test_a_call_whose_message_is_arriving_is_lost_too(serve):
    server, channel = serve()
    end = threading.Event()
    method = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    call = method.future(no_message(end), timeout=WAIT_S)
    predict(channel)  # the other call has arrived
    assert server.stop(0.1) is False
    end.set()
    rpc_error(call.result)


def test_watchers_of_the_health_do_not_delay_the_stop(serve):
    server, channel = serve()
    watch = health_pb2_grpc.HealthStub(channel).Watch(HEALTH)
    assert next(watch).status == 1
    assert server.stop(WAIT_S)  # it waits for calls, up to this time


def refuses(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_the_addresses_are_open_from_the_start_to_the_stop_only(recorder, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = bind(recorder, socket_path=str(path))
    assert refuses(server.port)
    server.start()
    for target in (f"127.0.0.1:{server.port}", f"unix:{path}"):
        with grpc.insecure_channel(target) as channel:
            predict(channel)
    server.stop(0)
    assert refuses(server.port) and not path.exists()


BEGIN = "-----BEGIN CERTIFICATE-----\n"
BAD_KEYS = SslConfig(server_key=f"{BEGIN}no key", server_cert=f"{BEGIN}none")


def test_an_address_or_keys_that_cannot_be_used_are_a_users_mistake(
    serve, recorder, tmp_path
):
    port = serve()[0].port
    (tmp_path / "file").write_text("text")
    for settings, message in (
        ({"port": port}, f"127.0.0.1:{port} cannot be opened"),
        ({"host": "no.such.host.invalid"}, "address no.such.host.invalid:0 cannot"),
        ({"ssl": BAD_KEYS}, "keys of --ssl-config-file cannot be used"),
        ({"socket_path": str(tmp_path / "file")}, "in use"),
        ({"socket_path": str(tmp_path / "no" / "file")}, "No such file"),
        ({"socket_path": str(tmp_path / ("x" * 108))}, "too long"),
    ):
        with pytest.raises(UserError, match=message):
            bind(recorder, **settings)
    assert (tmp_path / "file").read_text() == "text"
    assert (address("::1", 1), address("h", 1)) == ("[::1]:1", "h:1")


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
