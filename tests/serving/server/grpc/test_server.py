import socket
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


class Answers:
    """A core of which Predict does what a test says."""

    def __init__(self, predict):
        self.predict, self.metrics = predict, Metrics()
        self.bytes = WeightedSemaphore(2**20, "bytes")

    def __getattr__(self, name):
        return None


def fixed(request, deadline):
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
    return response


@pytest.fixture
def opened():
    """Opens doors to cores, and gives stubs for them."""
    doors, channels = [], []

    def opened(predict, **settings):
        settings = {"threads": 4, "message_bytes": 2**20, **settings}
        core = Answers(predict)
        door = GrpcServer(core, "127.0.0.1", 0, **settings)
        door.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{door.port}")
        doors.append(door)
        channels.append(channel)
        return door, core, channel

    yield opened
    for channel in channels:
        channel.close()
    for door in doors:
        door.stop(0)


def predict_by(channel, timeout=30, name="m"):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest(model_spec={"name": name})
    return stub.Predict(request, timeout=timeout)


def page_of(core):
    lines = core.metrics.render().splitlines()
    return [line for line in lines if line.startswith(":tensorflow:serving:request_")]


def test_answers_and_errors_are_counted_by_model_and_status(opened):
    def answer(request, deadline):
        if request.model_spec.name == "no":
            raise not_found("no such model")
        return fixed(request, deadline)

    _, core, channel = opened(answer)
    predict_by(channel)
    with pytest.raises(grpc.RpcError, match="no such model"):
        predict_by(channel, name="no")
    lines = page_of(core)
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="m",status="OK"}} 1' in lines
    assert f'{count}{{model_name="no",status="NOT_FOUND"}} 1' in lines
    latency = ":tensorflow:serving:request_latency_count"
    labels = 'model_name="m",API="Predict",entrypoint="GRPC"'
    assert f"{latency}{{{labels}}} 1" in lines
    assert not any(line.startswith(latency) and '"no"' in line for line in lines)


def test_a_fault_of_ours_is_an_error_and_the_next_request_is_answered(opened, caplog):
    faults = [ZeroDivisionError]

    def answer(request, deadline):
        if faults:
            raise faults.pop()
        return fixed(request, deadline)

    _, _, channel = opened(answer)
    with pytest.raises(grpc.RpcError) as caught:
        predict_by(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    predict_by(channel)


def test_the_deadline_of_the_client_is_the_cores(opened):
    seen = []

    def answer(request, deadline):
        seen.append(deadline.remaining_s())
        return fixed(request, deadline)

    _, _, channel = opened(answer)
    predict_by(channel, timeout=20)
    predict_by(channel, timeout=None)
    assert 15 < seen[0] <= 20 and seen[1] is None


def test_a_client_that_goes_away_cancels(opened):
    entered, cancelled = threading.Event(), threading.Event()

    def answer(request, deadline):
        entered.set()
        for _ in range(3000):
            if deadline.cancelled:
                cancelled.set()
                break
            time.sleep(0.01)
        return fixed(request, deadline)

    _, _, channel = opened(answer)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    call = stub.Predict.future(predict_pb2.PredictRequest(), timeout=30)
    assert entered.wait(30)
    call.cancel()
    assert cancelled.wait(30)


def test_health_is_known_by_service_until_the_end(opened):
    door, _, channel = opened(fixed)
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "PredictionService", "ModelService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(request, timeout=30).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="Other"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_answered_while_all_that_may_are_at_work(opened):
    entered, go = threading.Semaphore(0), threading.Event()

    def answer(request, deadline):
        entered.release()
        assert go.wait(30)
        return fixed(request, deadline)

    _, _, channel = opened(answer, threads=2)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    calls = [stub.Predict.future(predict_pb2.PredictRequest()) for _ in range(8)]
    for _ in calls:
        assert entered.acquire(timeout=30)
    check = health_pb2.HealthCheckRequest()
    assert health_pb2_grpc.HealthStub(channel).Check(check, timeout=30).status == 1
    go.set()
    assert all(call.result(30).outputs for call in calls)


def test_what_is_in_work_is_answered_when_the_door_closes(opened):
    entered, go = threading.Event(), threading.Event()

    def answer(request, deadline):
        entered.set()
        assert go.wait(30)
        return fixed(request, deadline)

    door, _, channel = opened(answer)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    call = stub.Predict.future(predict_pb2.PredictRequest(), timeout=30)
    assert entered.wait(30)
    closing = threading.Thread(target=door.stop, args=(30,))
    closing.start()
    with pytest.raises(grpc.RpcError) as caught:
        while True:  # the door takes a moment to close
            with grpc.insecure_channel(f"127.0.0.1:{door.port}") as late:
                check = health_pb2.HealthCheckRequest()
                health_pb2_grpc.HealthStub(late).Check(check, timeout=2)
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    codes += [grpc.StatusCode.CANCELLED]  # came as the door closed
    assert caught.value.code() in codes
    go.set()
    assert call.result(30).outputs["y"].float_val == [1.0]
    closing.join(30)


def test_those_who_watch_the_health_do_not_hold_the_door_open(opened):
    door, _, channel = opened(fixed)
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == 1
    start_s = time.monotonic()
    door.stop(60)
    assert time.monotonic() - start_s < 30
    with pytest.raises(grpc.RpcError):
        list(watch)


def test_an_address_of_ipv6_is_written_in_brackets():
    assert address("::1", 8500) == "[::1]:8500"
    assert address("localhost", 8500) == "localhost:8500"


def test_a_host_that_is_no_address_is_a_users_mistake():
    with pytest.raises(UserError, match="--host 'no.such.host.invalid' is no address"):
        GrpcServer(
            Answers(fixed), "no.such.host.invalid", 0, threads=1, message_bytes=1
        )


def test_random_bytes_on_the_port_end_nothing(opened):
    door, _, channel = opened(fixed)
    for data in (b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 10_000):
        with socket.create_connection(("127.0.0.1", door.port), timeout=10) as raw:
            raw.sendall(data)
    predict_by(channel)


def test_an_address_that_cannot_be_opened_is_a_users_mistake(opened):
    door, _, _ = opened(fixed)
    with pytest.raises(UserError, match=f"127.0.0.1:{door.port} cannot be opened"):
        GrpcServer(
            Answers(fixed), "127.0.0.1", door.port, threads=1, message_bytes=2**20
        )


# TLS --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A certificate of localhost that is its own authority: (key, certificate)."""
    folder = tmp_path_factory.mktemp("keys")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key -out cert"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "key").read_text(), (folder / "cert").read_text()


def secure(door, cert, **mine):
    credentials = grpc.ssl_channel_credentials(cert.encode(), **mine)
    return grpc.secure_channel(f"localhost:{door.port}", credentials)


def test_over_tls_only_those_who_speak_it_are_answered(opened, keys):
    key, cert = keys
    ssl = SslConfig(server_key=key, server_cert=cert)
    door, _, plain = opened(fixed, ssl=ssl)
    with secure(door, cert) as channel:
        assert predict_by(channel).outputs["y"].float_val == [1.0]
    with pytest.raises(grpc.RpcError):
        predict_by(plain, timeout=5)


def test_over_mutual_tls_only_those_with_a_certificate_are_answered(opened, keys):
    key, cert = keys
    ssl = SslConfig(
        server_key=key, server_cert=cert, custom_ca=cert, client_verify=True
    )
    door, _, _ = opened(fixed, ssl=ssl)
    mine = {"private_key": key.encode(), "certificate_chain": cert.encode()}
    with secure(door, cert, **mine) as channel:
        assert predict_by(channel).outputs["y"].float_val == [1.0]
    with secure(door, cert) as channel, pytest.raises(grpc.RpcError):
        predict_by(channel, timeout=5)


BEGIN = "-----BEGIN CERTIFICATE-----\n"


def test_keys_that_cannot_be_used_are_a_users_mistake():
    with pytest.raises(UserError, match="the keys of --ssl-config-file cannot be used"):
        GrpcServer(
            Answers(fixed),
            "127.0.0.1",
            0,
            threads=1,
            message_bytes=1,
            ssl=SslConfig(server_key=f"{BEGIN}no key", server_cert=f"{BEGIN}none"),
        )


def test_serving_error_is_cut_to_what_tensorflow_serving_sends(opened):
    def answer(request, deadline):
        raise ServingError(grpc.StatusCode.ABORTED, "é" * 3000)

    _, _, channel = opened(answer)
    with pytest.raises(grpc.RpcError) as caught:
        predict_by(channel)
    assert caught.value.details() == "é" * 512 + "...TRUNCATED"


@pytest.mark.parametrize("end", [b"\x00", b"\x04", b"\x0c"])
def test_a_request_that_ends_too_early_is_an_error(opened, end, recwarn):
    _, _, channel = opened(fixed)
    data = predict_pb2.PredictRequest(model_spec={"name": "m"}).SerializeToString()
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(data + end, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "is no tensorflow.serving.PredictRequest" in caught.value.details()
    assert not recwarn.list
