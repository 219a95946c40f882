import asyncio
import gzip
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

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


class DataPlane:
    """Data plane with its own metrics and limit of bytes.

    Attributes:
        gate: Event that requests wait for; set at first.
        error: Error of the next requests, or None.
        started: Number of requests that passed the limits.
    """

    def __init__(self, data_plane):
        self._data_plane = data_plane
        self.metrics, self.bytes = Metrics(), WeightedSemaphore(8 * MIB, "bytes")
        self.gate, self.error, self.started = threading.Event(), None, 0
        self.gate.set()

    def __getattr__(self, name):
        self.started += 1
        assert self.gate.wait(WAIT_S)
        if self.error:
            raise self.error
        return getattr(self._data_plane, name)


class Client:
    """Calls the application without a socket."""

    def __init__(self, data_plane, **settings):
        limits = {"message_bytes": 2**22, "in_flight": 4, "in_flight_bytes": 8 * MIB}
        limits |= {k: settings.pop(k) for k in list(settings) if k in limits}
        self.data_plane = DataPlane(data_plane)
        settings = {"metrics_path": METRICS, **settings}
        self.app = RestApp(self.data_plane, Limits(**limits), **settings)
        self._client = TestClient(self.app)

    def request(self, *args, **kwargs):
        return self._client.request(*args, **kwargs)

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
    return lambda **settings: Client(data_plane, **settings)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.mark.parametrize("choice", ["", "/versions/1", "/labels/stable"])
def test_a_version_is_chosen_by_default_number_or_label(client, choice):
    model = MODEL + choice
    response = client.json("POST", f"{model}:predict", {"instances": [1, 2, 5]})
    assert response == (200, {"predictions": [2.5, 3.0, 4.5]})
    status, response = client.json("GET", model)
    assert (status, response["model_version_status"]) == (
        200,
        [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ],
    )
    status, response = client.json("GET", f"{model}/metadata")
    assert response["model_spec"]["version"] == "1"
    signatures = response["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_a_prediction_by_column_a_classification_and_a_regression(client):
    assert client.predict({"inputs": [1, 2]}) == (200, {"outputs": [2.5, 3.0]})
    for action, result in (
        ("classify", [["low", 0.0], ["high", 1.0]]),
        ("regress", 52),
    ):
        body = {"signature_name": action, "examples": [{"x": 1.0}, {"x": 100.0}]}
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        assert (status, response["results"][1]) == (200, result)


def test_a_form_is_one_row_and_absent_strings_are_empty(client):
    def post(**kwargs):
        response = client.request("POST", PREDICT, **kwargs)
        return response.status_code, response.json()

    assert post(files={"x": "3"}) == (200, {"predictions": [3.5]})
    form = {"data": {"signature_name": "echo"}, "files": {"s": b"\xff\r\n--"}}
    status, response = post(**form)
    assert response["predictions"] == [{"length": 5, "s_bytes": {"b64": "/w0KLS0="}}]
    assert post(files={"x": "three"})[0] == post(files={"y": "3"})[0] == 400
    status, response = client.predict({"signature_name": "echo", "instances": [{}]})
    assert response["predictions"] == [{"length": 0, "s_bytes": {"b64": ""}}]


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/", 404, "There is nothing at GET /"),
        ("GET", PREDICT, 400, f"Malformed request: GET {PREDICT}"),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", f"{MODEL}/versions/7/metadata", 404, "Specific(halves, 7)"),
        ("GET", f"{MODEL}/labels/new/metadata", 400, "servable version label: new"),
        ("POST", PREDICT, 400, "The document is empty"),
        ("POST", f"{MODEL}:classify", 400, "The document is empty"),
    ],
)
def test_an_invalid_request_is_an_error(client, method, target, status, message):
    response_status, response = client.json(method, target)
    assert response_status == status and response["error"].endswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"signature_name": "no", "inputs": 1}, 'signature name: "no" not found'),
        ({"signature_name": 1, "inputs": 1}, "key must be a string value"),
    ],
)
def test_an_invalid_signature_is_an_error(client, body, message):
    status, response = client.predict(body)
    assert status == 400 and message in response["error"]


def test_options_are_answered(client):
    response = client.request("OPTIONS", PREDICT)
    assert response.status_code == 200 and "POST" in response.headers["allow"]
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


def test_each_code_has_its_status(client):
    for status, codes in STATUSES.items():
        for code in codes.split():
            error = ServingError(grpc.StatusCode[code], "x" * 2000)
            client.data_plane.error = error
            response = client.json("GET", MODEL)
            assert response == (status, {"error": error.truncated_message})


def test_a_bug_is_a_500_and_its_traceback_is_logged(client, caplog):
    client.data_plane.error = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR):
        status, response = client.predict()
    assert status == 500 and "secret" not in response["error"]
    assert "ZeroDivisionError: secret" in caplog.text
    client.data_plane.error = None
    assert client.predict() == OUTPUT


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


def test_a_small_gzip_body_cannot_become_a_large_document(client):
    body = b'{"inputs": [' + b"[]," * 40_000 + b"0]}"
    for part, is_large in ((body, True), (body.replace(b"[],", b""), False)):
        status, response = client.predict(gzip.compress(part), **GZIP)
        assert status == (400 if is_large else 200)
        assert ("bytes, and the limit is 8388608" in str(response)) == is_large


def test_too_many_rows_are_refused_before_they_are_parsed(client):
    body = b'{"instances": [' + b"nonsense," * 10_000 + b"nonsense]}"
    status, response = client.predict(body)
    assert status == 400 and "10001 rows, and the limit is 1000" in response["error"]


SCOPE = {"type": "http", "method": "POST", "headers": [], "query_string": b""}
SCOPE |= {"path": PREDICT, "raw_path": PREDICT.encode()}


def chunks(*sizes):
    return [
        {"type": "http.request", "body": b" " * size, "more_body": True}
        for size in sizes
    ]


def test_bytes_are_counted_as_they_arrive(client):
    with client.data_plane.bytes.try_acquire(7 * MIB):
        status, _, body = asyncio.run(
            run_asgi(client.app, SCOPE, chunks(MIB // 2, MIB))  # and more to come
        )
    assert status == 429
    assert b"Too many bytes in flight: 7864320 of 8388608" in body
    assert client.predict() == OUTPUT  # all bytes were released
    with client.data_plane.bytes.try_acquire(8 * MIB):
        assert client.predict()[0] == 429


def test_slow_bodies_leave_half_of_the_bytes_to_others(make_client):
    client = make_client(message_bytes=MIB, in_flight_bytes=2 * MIB)

    async def send_two():
        calls = [run_asgi(client.app, SCOPE, chunks(3 * MIB // 4)) for _ in range(2)]
        slow = asyncio.create_task(calls[0])
        await asyncio.sleep(0)
        result = await calls[1]
        slow.cancel()
        return result

    status, _, body = asyncio.run(send_two())
    assert status == 429 and b"Too many bytes of arriving requests" in body
    assert client.predict() == OUTPUT


def test_requests_above_the_limit_are_rejected_and_the_others_served(make_client):
    client = make_client(in_flight=2)
    client.data_plane.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(client.predict) for _ in range(2)]
        wait_until(lambda: client.app.running == 2)
        status, response = client.predict()
        assert status == 429
        assert "Too many requests in flight: 2 of 2" in response["error"]
        client.data_plane.gate.set()
        assert [future.result(WAIT_S) for future in futures] == [OUTPUT] * 2
    assert client.app.running == 0


def test_the_deadline_counts_from_the_arrival(make_client, monkeypatch):
    deadlines = []

    def run_action(data_plane, request):
        deadlines.append(request.deadline)
        return b"{}"

    monkeypatch.setattr(api, "run_action", run_action)
    assert make_client(timeout_s=60).predict()[0] == 200
    assert 50 < deadlines[0].remaining_s() <= 60
    status, response = make_client(timeout_s=0).predict()
    assert status == 504 and "time was over in the queue" in response["error"]
    assert len(deadlines) == 1


def test_requests_and_latencies_are_counted(client):
    client.predict()
    client.predict({"inputs": "a"})
    client.json("POST", "/v1/models/no:predict", INPUT)
    client.json("GET", MODEL)
    response = client.request("GET", METRICS)
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/plain",
    )
    page = response.text
    for name, code, count in (
        ("halves", "OK", 2),
        ("halves", "INVALID_ARGUMENT", 1),
        ("no", "NOT_FOUND", 1),
    ):
        labels = f'model_name="{name}",status="{code}"'
        assert f":tensorflow:serving:request_count{{{labels}}} {count}\n" in page
    labels = 'model_name="halves",API="predict",entrypoint="REST"'
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1\n" in page
    assert list(text_string_to_metric_families(page))


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
