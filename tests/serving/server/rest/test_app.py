import asyncio
import copy
import gzip
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.data_plane import Limits
from serving.server.errors import ServingError
from serving.server.metrics import Metrics
from serving.server.rest import api
from serving.server.rest.app import RestApp
from tests.serving.fuzzing.http_requests import draw_body
from tests.serving.server.asgi import run_asgi
from tests.serving.server.assertions import WAIT_S, wait_until

MODEL = "/v1/models/halves"
PREDICT = f"{MODEL}:predict"
METRICS = "/monitoring/prometheus/metrics"
INPUT, OUTPUT = {"inputs": [1]}, (200, {"outputs": [2.5]})
GZIP = {"content-encoding": "gzip"}
MIB = 2**20


class Client:
    """Calls the application without a socket; has its own metrics and bytes."""

    def __init__(self, data_plane, timeout_s=30, metrics_path=METRICS, **limits):
        self.data_plane = copy.copy(data_plane)
        self.data_plane.metrics = Metrics()
        self.bytes = self.data_plane.bytes = WeightedSemaphore(8 * MIB, "bytes")
        limits = Limits(**{"message_bytes": 4 * MIB, "in_flight": 4, **limits})
        self.app = RestApp(
            self.data_plane, limits, timeout_s=timeout_s, metrics_path=metrics_path
        )
        self.request = TestClient(self.app).request

    def json(self, method, target, body=None, **headers):
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        response = self.request(method, target, content=body, headers=headers)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()

    def predict(self, body=INPUT, **headers):
        return self.json("POST", PREDICT, body, **headers)


@pytest.fixture
def make_client(data_plane):
    return partial(Client, data_plane)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def replace_action(monkeypatch):
    """Sets what runs requests: run(data plane, request)."""
    return partial(monkeypatch.setattr, api, "run_action")


@pytest.mark.parametrize("choice", ["", "/versions/1", "/labels/stable"])
def test_a_version_is_chosen_by_default_number_or_label(client, choice):
    model = MODEL + choice
    response = client.json("POST", f"{model}:predict", {"instances": [1, 2, 5]})
    assert response == (200, {"predictions": [2.5, 3.0, 4.5]})
    _, response = client.json("GET", model)
    ok = {"error_code": "OK", "error_message": ""}
    state = {"version": "1", "state": "AVAILABLE", "status": ok}
    assert response == {"model_version_status": [state]}
    _, response = client.json("GET", f"{model}/metadata")
    assert response["model_spec"]["version"] == "1"
    signatures = response["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


@pytest.mark.parametrize(
    ("action", "result"), [("classify", [["low", 0.0], ["high", 1.0]]), ("regress", 52)]
)
def test_examples_are_classified_and_regressed(client, action, result):
    body = {"signature_name": action, "examples": [{"x": 1.0}, {"x": 100.0}]}
    status, response = client.json("POST", f"{MODEL}:{action}", body)
    assert (status, response["results"][1]) == (200, result)


def test_a_form_is_one_row_and_absent_strings_are_empty(client):
    def post(**kwargs):
        response = client.request("POST", PREDICT, **kwargs)
        return response.status_code, response.json()

    assert post(files={"x": "3"}) == (200, {"predictions": [3.5]})
    form = {"data": {"signature_name": "echo"}, "files": {"s": b"\xff\r\n--"}}
    echo = {"length": 5, "s_bytes": {"b64": "/w0KLS0="}}
    assert post(**form) == (200, {"predictions": [echo]})
    assert post(files={"x": "three"})[0] == post(files={"y": "3"})[0] == 400
    _, response = client.predict({"signature_name": "echo", "instances": [{}]})
    assert response["predictions"] == [{"length": 0, "s_bytes": {"b64": ""}}]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "message"),
    [
        ("GET", "/", None, 404, "There is nothing at GET /"),
        ("GET", PREDICT, None, 400, f"Malformed request: GET {PREDICT}"),
        ("GET", "/v1/models/no", None, 404, "Could not find any versions of model no"),
        ("GET", f"{MODEL}/versions/7/metadata", None, 404, "Specific(halves, 7)"),
        ("POST", PREDICT, None, 400, "The document is empty"),
        ("POST", f"{MODEL}:classify", None, 400, "The document is empty"),
        ("POST", PREDICT, {"signature_name": "no", "inputs": 1}, 400, '"no" not found'),
        ("POST", PREDICT, {"signature_name": 1}, 400, "key must be a string value"),
    ],
)
def test_an_invalid_request_is_an_error(client, method, target, body, status, message):
    response_status, response = client.json(method, target, body)
    assert response_status == status and message in response["error"]


def test_options_and_head_have_no_body(client):
    response = client.request("OPTIONS", PREDICT)
    assert (response.status_code, response.content) == (200, b"")
    assert "POST" in response.headers["allow"]
    assert client.request("HEAD", MODEL).content == b""


STATUSES = {
    400: "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL UNKNOWN",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@pytest.mark.parametrize(
    ("status", "code"), [(s, c) for s, codes in STATUSES.items() for c in codes.split()]
)
def test_each_code_has_its_status(client, replace_action, status, code):
    error = ServingError(grpc.StatusCode[code], "x" * 2000)

    def fail(*_):
        raise error

    replace_action(fail)
    assert client.json("GET", MODEL) == (status, {"error": error.truncated_message})


def test_a_bug_is_a_500_and_its_traceback_is_logged(client, caplog, replace_action):
    replace_action(lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR):
        status, response = client.predict()
    assert status == 500 and "division" not in response["error"]
    assert "ZeroDivisionError: division" in caplog.text


def test_a_body_may_be_compressed(client):
    body = json.dumps(INPUT).encode()
    members = gzip.compress(body[:5]) + gzip.compress(body[5:])
    for packed in (gzip.compress(body), members):
        assert client.predict(packed, **GZIP) == OUTPUT
    for broken in (body, gzip.compress(body)[:-9], gzip.compress(body) + b"x"):
        status, response = client.predict(broken, **GZIP)
        assert status == 400 and "Content-Encoding: gzip" in response["error"]


def test_a_body_above_the_limit_is_a_413_plain_chunked_or_compressed(make_client):
    client, body = make_client(message_bytes=1000), json.dumps(INPUT).encode()
    fits, larger = body.ljust(1000), body.ljust(1001)
    assert client.predict(fits) == client.predict(gzip.compress(fits), **GZIP) == OUTPUT
    bomb = gzip.compress(b" " * 10_000_000)[:900]
    for content, headers in (
        (larger, {}),
        (iter([larger[:900], larger[900:]]), {}),
        (bomb, GZIP),
        (gzip.compress(larger), GZIP),
    ):
        response = client.request("POST", PREDICT, content=content, headers=headers)
        assert response.status_code == 413
        assert "1000 bytes" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": [' + b"[]," * 40_000 + b"0]}", "bytes, and the limit is 8388608"),
        (b'{"instances": [' + b"nonsense," * 10_000 + b"1]}", "has 10001 rows, and"),
    ],
)
def test_large_documents_and_many_rows_are_refused_unparsed(client, body, message):
    status, response = client.predict(gzip.compress(body), **GZIP)
    assert status == 400 and message in response["error"]


SCOPE = {"type": "http", "method": "POST", "headers": [], "query_string": b""}
SCOPE |= {"path": PREDICT, "raw_path": PREDICT.encode()}


def send(app, *sizes):
    """Sends chunks of a body that does not end."""
    chunk = {"type": "http.request", "more_body": True}
    return run_asgi(app, SCOPE, [{**chunk, "body": b" " * size} for size in sizes])


def test_bytes_are_counted_as_they_arrive(client):
    with client.bytes.try_acquire(7 * MIB):
        status, _, body = asyncio.run(send(client.app, MIB // 2, MIB))
    assert status == 429
    assert b"Too many bytes in flight: 7864320 of 8388608" in body
    assert client.predict() == OUTPUT  # all bytes were released
    with client.bytes.try_acquire(8 * MIB):
        assert client.predict()[0] == 429


def test_slow_bodies_leave_half_of_the_bytes_to_others(make_client):
    client = make_client(message_bytes=MIB, in_flight_bytes=2 * MIB)

    async def send_two():
        slow = asyncio.create_task(send(client.app, 3 * MIB // 4))
        await asyncio.sleep(0)
        result = await send(client.app, 3 * MIB // 4)
        slow.cancel()
        return result

    status, _, body = asyncio.run(send_two())
    assert status == 429 and b"Too many bytes of arriving requests" in body
    assert client.predict() == OUTPUT


def test_requests_above_the_limit_are_rejected(make_client, replace_action):
    client, gate, run = make_client(in_flight=2), threading.Event(), api.run_action
    replace_action(lambda *args: gate.wait(WAIT_S) and run(*args))
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(client.predict) for _ in range(2)]
        wait_until(lambda: client.app.running == 2)
        status, response = client.predict()
        gate.set()
        assert [future.result(WAIT_S) for future in futures] == [OUTPUT] * 2
    assert status == 429
    assert "Too many requests in flight: 2 of 2" in response["error"]
    assert client.app.running == 0


def test_the_deadline_counts_from_the_end_of_the_body(make_client, replace_action):
    deadlines = []
    replace_action(lambda _, request: deadlines.append(request.deadline) or b"{}")
    assert make_client(timeout_s=60).predict()[0] == 200
    assert 50 < deadlines[0].remaining_s() <= 60
    status, response = make_client(timeout_s=0).predict()
    assert status == 504 and "was over in the queue" in response["error"]
    assert len(deadlines) == 1


def test_requests_and_latencies_are_counted(client):
    client.predict()
    client.predict({"inputs": "a"})
    client.json("POST", "/v1/models/no:predict", INPUT)
    client.json("GET", MODEL)
    response = client.request("GET", METRICS)
    assert response.headers["content-type"] == "text/plain"
    assert list(text_string_to_metric_families(response.text))
    for name, code, count in (
        ("halves", "OK", 2),
        ("halves", "INVALID_ARGUMENT", 1),
        ("no", "NOT_FOUND", 1),
    ):
        labels = f'model_name="{name}",status="{code}"'
        line = f":tensorflow:serving:request_count{{{labels}}} {count}\n"
        assert line in response.text
    labels = 'model_name="halves",API="predict",entrypoint="REST"'
    line = f":tensorflow:serving:request_latency_count{{{labels}}} 1\n"
    assert line in response.text


def test_the_metrics_page_has_no_query_and_is_optional(client, make_client):
    response = client.request("GET", f"{METRICS}?a=1")
    assert response.status_code == 400
    assert response.text == f"Unexpected path: {METRICS}?a=1. Should be {METRICS}"
    assert make_client(metrics_path=None).json("GET", METRICS)[0] == 404


def test_any_body_gets_a_result_or_a_client_error(client, servable):
    bodies = draw_body(servable.signatures).map(str.encode) | st.binary()

    @settings(max_examples=300)
    @given(st.sampled_from(["predict", "classify"]), bodies)
    def check(action, body):
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        if status == 200:
            (name,) = response
            assert name in {"predictions", "outputs", "results"}
        else:
            assert status == 400 and list(response) == ["error"]

    check()
