import subprocess
import threading
import time

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from mmkeras.errors import UserError
from serving.server.configs import SslConfig
from serving.server.engine.admission import WeightedSemaphore
from serving.server.errors import ServingError, not_found
from serving.server.grpc.server import GrpcServer, address
from serving.server.metrics import Metrics
from tests.serving.server.assertions import WAIT_S, rpc_error, wait_until

HEALTH = health_pb2.HealthCheckRequest()


class FakeDataPlane:
    """Data plane with only the method Predict."""

    def __init__(self, predict, metrics):
        self.predict, self.metrics = predict, metrics
        self.bytes = WeightedSemaphore(2**20, "bytes")

    def __getattr__(self, name):
        return None


def predict_one(request, deadline):
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
    return response


class BlockedPredict:
    """Implementation of Predict that waits for `go`."""

    def __init__(self):
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self, request, deadline):
        self.entered.release()
        assert self.go.wait(WAIT_S)
        return predict_one(request, deadline)


def bind(port=0, host="127.0.0.1", predict=predict_one, metrics=None, **settings):
    settings = {"threads": 4, "message_bytes": 2**20, **settings}
    data_plane = FakeDataPlane(predict, metrics or Metrics())
    return GrpcServer(data_plane, host, port, **settings)


@pytest.fixture
def serve():
    """Starts servers; returns each one with a channel."""
    servers, channels = [], []

    def serve(predict=predict_one, **settings):
        servers.append(bind(predict=predict, **settings))
        servers[-1].start()
        channels.append(grpc.insecure_channel(f"127.0.0.1:{servers[-1].port}"))
        return servers[-1], channels[-1]

    yield serve
    for channel in channels:
        channel.close()
    for server in servers:
        server.stop(0)


def predict_of(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def health_of(channel):
    return health_pb2_grpc.HealthStub(channel)


def predict(channel, timeout=WAIT_S, name="m"):
    request = predict_pb2.PredictRequest(model_spec={"name": name})
    return predict_of(channel)(request, timeout=timeout)


def start_predict(channel):
    return predict_of(channel).future(predict_pb2.PredictRequest(), timeout=WAIT_S)


def test_requests_are_counted_by_model_and_status(serve):
    def respond(request, deadline):
        if request.model_spec.name == "no":
            raise not_found("no such model")
        return predict_one(request, deadline)

    metrics = Metrics()
    _, channel = serve(respond, metrics=metrics)
    predict(channel)
    code, details = rpc_error(predict, channel, name="no")
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no such model")
    page = metrics.render()
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="m",status="OK"}} 1\n' in page
    assert f'{count}{{model_name="no",status="NOT_FOUND"}} 1\n' in page
    latency = ":tensorflow:serving:request_latency_count"
    labels = 'model_name="m",API="Predict",entrypoint="GRPC"'
    assert f"{latency}{{{labels}}} 1\n" in page
    assert f'{latency}{{model_name="no"' not in page


def test_a_bug_is_an_error_and_the_next_request_is_served(serve, caplog):
    errors = [ZeroDivisionError, ServingError(grpc.StatusCode.ABORTED, "é" * 3000)]

    def respond(request, deadline):
        if errors:
            raise errors.pop(0)
        return predict_one(request, deadline)

    _, channel = serve(respond)
    assert rpc_error(predict, channel)[0] is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    _, details = rpc_error(predict, channel)
    assert details == "é" * 512 + "...TRUNCATED"
    predict(channel)


def test_the_deadline_is_that_of_the_client(serve):
    times_s = []

    def respond(request, deadline):
        times_s.append(deadline.remaining_s())
        return predict_one(request, deadline)

    _, channel = serve(respond)
    predict(channel, timeout=20)
    predict(channel, timeout=None)
    assert 15 < times_s[0] < 21 and times_s[1] is None


def test_a_client_that_cancels_ends_the_deadline(serve):
    entered, cancelled = threading.Event(), threading.Event()

    def respond(request, deadline):
        entered.set()
        wait_until(lambda: deadline.cancelled)
        cancelled.set()
        return predict_one(request, deadline)

    _, channel = serve(respond)
    call = start_predict(channel)
    assert entered.wait(WAIT_S)
    call.cancel()
    assert cancelled.wait(WAIT_S)


def test_health_is_reported_by_service(serve):
    _, channel = serve()
    for service in ("", "PredictionService", "ModelService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert health_of(channel).Check(request, timeout=WAIT_S).status == 1
    request = health_pb2.HealthCheckRequest(service="Other")
    code, _ = rpc_error(health_of(channel).Check, request, timeout=WAIT_S)
    assert code is grpc.StatusCode.NOT_FOUND


def test_health_responds_while_all_threads_for_models_are_busy(serve):
    blocked = BlockedPredict()
    _, channel = serve(blocked, threads=2)
    calls = [start_predict(channel) for _ in range(8)]
    for _ in calls:
        assert blocked.entered.acquire(timeout=WAIT_S)
    assert health_of(channel).Check(HEALTH, timeout=WAIT_S).status == 1
    blocked.go.set()
    assert all(call.result(WAIT_S).outputs for call in calls)


def test_running_requests_are_finished_while_the_server_stops(serve):
    blocked = BlockedPredict()
    server, channel = serve(blocked)
    call = start_predict(channel)
    assert blocked.entered.acquire(timeout=WAIT_S)
    stopping = threading.Thread(target=server.stop, args=(WAIT_S,))
    stopping.start()
    with pytest.raises(grpc.RpcError) as caught:
        while True:  # until the port is closed
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as late:
                health_of(late).Check(HEALTH, timeout=2)
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    codes += [grpc.StatusCode.CANCELLED]  # a call in the moment of closing
    assert caught.value.code() in codes
    blocked.go.set()
    assert call.result(WAIT_S).outputs["y"].float_val == [1.0]
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


def test_an_address_or_keys_that_cannot_be_used_are_a_users_mistake(serve):
    server, _ = serve()
    with pytest.raises(UserError, match=f"127.0.0.1:{server.port} cannot be opened"):
        bind(server.port)
    with pytest.raises(UserError, match="--host 'no.such.host.invalid' is no address"):
        bind(host="no.such.host.invalid")
    ssl = SslConfig(server_key=f"{BEGIN}no key", server_cert=f"{BEGIN}none")
    with pytest.raises(UserError, match="the keys of --ssl-config-file cannot be used"):
        bind(ssl=ssl)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A self-signed certificate of localhost: (key, certificate)."""
    folder = tmp_path_factory.mktemp("keys")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key -out cert"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "key").read_text(), (folder / "cert").read_text()


@pytest.mark.parametrize("mutual", [False, True])
def test_only_clients_with_tls_are_served_and_with_mutual_tls_a_certificate(
    serve, keys, mutual
):
    key, cert = keys
    settings = {"custom_ca": cert, "client_verify": True} if mutual else {}
    ssl = SslConfig(server_key=key, server_cert=cert, **settings)
    server, plain = serve(ssl=ssl)

    def connect(**pair):
        credentials = grpc.ssl_channel_credentials(cert.encode(), **pair)
        return grpc.secure_channel(f"localhost:{server.port}", credentials)

    pair = {"private_key": key.encode(), "certificate_chain": cert.encode()}
    with connect(**(pair if mutual else {})) as channel:
        assert predict(channel).outputs["y"].float_val == [1.0]
    rejected = connect() if mutual else plain
    rpc_error(predict, rejected, timeout=5)
    rejected.close()
