import asyncio
import copy
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest.mock import Mock

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.data_plane import Limits
from serving.server.errors import ServingError
from serving.server.metrics import Metrics
from serving.server.rest import api
from serving.server.rest.app import RestApp
from tests.serving.fuzzing.http_requests import draw_body
from tests.serving.server.asgi import call_asgi, run_asgi
from tests.serving.server.assertions import WAIT_S, wait_until

MODEL, METRICS = "/v1/models/halves", "/monitoring/prometheus/metrics"
PREDICT = f"{MODEL}:predict"
INPUT, OUTPUT = b'{"inputs": [1]}', (200, {"outputs": [2.5]})
GZIP, MIB = {"content-encoding": "gzip"}, 2**20


class Client:
    """Calls the application without a socket; has its own metrics and bytes."""

    def __init__(self, data_plane, timeout_s=30, metrics_path=METRICS, **limits):
        data_plane = copy.copy(data_plane)
        data_plane.metrics = Metrics()
        self.bytes = data_plane.bytes = WeightedSemaphore(8 * MIB, "bytes")
        limits = Limits(**{"message_bytes": 4 * MIB, "in_flight": 4, **limits})
        settings = {"timeout_s": timeout_s, "metrics_path": metrics_path}
        self.app = RestApp(data_plane, limits, **settings)
        self.request = TestClient(self.app).request

    def json(self, method, target, body=b"", **options):
        content = json.dumps(body) if isinstance(body, dict) else body
        response = self.request(method, target, content=content, **options)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()

    def predict(self, body=INPUT, **options):
        return self.json("POST", PREDICT, body, **options)


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
    (state,) = client.json("GET", model)[1]["model_version_status"]
    ok = {"error_code": "OK", "error_message": ""}
    assert state == {"version": "1", "state": "AVAILABLE", "status": ok}
    _, response = client.json("GET", f"{model}/metadata")
    assert response["model_spec"]["version"] == "1"
    signatures = response["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_examples_are_classified_and_regressed(client):
    for action, result in ("classify", [["low", 0.0], ["high", 1.0]]), ("regress", 52):
        body = {"signature_name": action, "examples": [{"x": 1.0}, {"x": 100.0}]}
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        assert (status, response["results"][1]) == (200, result)


def test_a_form_is_one_row_and_absent_strings_are_empty(client):
    def post(data=None, **files):
        return client.request("POST", PREDICT, data=data, files=files).json()

    name, empty = {"signature_name": "echo"}, {"length": 0, "s_bytes": {"b64": ""}}
    assert post(x="3") == {"predictions": [3.5]}
    (row,) = post(name, s=b"\xff\r\n--")["predictions"]
    assert row == {"length": 5, "s_bytes": {"b64": "/w0KLS0="}}
    assert list(post(x="three")) == list(post(y="3")) == ["error"]
    assert client.predict({**name, "instances": [{}]})[1] == {"predictions": [empty]}


def test_an_invalid_request_is_an_error(client):
    for method, target, body, status, message in (
        ("GET", "/v1/models/n%6f", {}, 404, "Could not find any versions of model no"),
        ("POST", f"{PREDICT}?a=%20", {}, 400, f"Malformed request: POST {PREDICT}?a"),
        ("POST", PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        ("POST", f"{MODEL}:classify", b"", 400, "JSON Parse error: The document is"),
        ("POST", PREDICT, {"signature_name": "no"}, 400, 'name: "no" not found in'),
        ("POST", PREDICT, {"signature_name": 1}, 400, "JSON Value: 1 not formatted"),
    ):
        response_status, response = client.json(method, target, body)
        assert response_status == status and message in response["error"]


def test_options_and_head_have_no_body(client):
    response = client.request("OPTIONS", PREDICT)
    assert (response.status_code, response.content) == (200, b"")
    assert "POST" in response.headers["allow"]
    assert client.request("HEAD", MODEL).content == b""


CODES = """400 INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE, 401 UNAUTHENTICATED,
403 PERMISSION_DENIED, 404 NOT_FOUND, 409 ALREADY_EXISTS ABORTED, 500 INTERNAL UNKNOWN,
429 RESOURCE_EXHAUSTED, 499 CANCELLED, 501 UNIMPLEMENTED, 503 UNAVAILABLE,
504 DEADLINE_EXCEEDED"""


@pytest.mark.parametrize("line", CODES.split(","))
def test_each_code_has_its_status(client, replace_action, line):
    status, *codes = line.split()
    for code in codes:
        error = ServingError(grpc.StatusCode[code], "x" * 2000)
        replace_action(Mock(side_effect=error))
        assert client.predict() == (int(status), {"error": error.truncated_message})


def test_a_bug_is_a_500_and_its_traceback_is_logged(client, caplog, replace_action):
    replace_action(lambda *_: 1 / 0)
    status, response = client.predict()
    assert status == 500 and "division" not in response["error"]
    assert "ZeroDivisionError: division" in caplog.text


def test_a_body_may_be_compressed(client):
    packed = gzip.compress(INPUT)
    for content in (packed, gzip.compress(INPUT[:5]) + gzip.compress(INPUT[5:])):
        assert client.predict(content, headers=GZIP) == OUTPUT
    for broken in (INPUT, packed[:-9], packed + b"x"):
        status, response = client.predict(broken, headers=GZIP)
        assert status == 400 and "Content-Encoding: gzip" in response["error"]


def test_a_body_above_the_limit_is_a_413_plain_chunked_or_compressed(make_client):
    client, larger = make_client(message_bytes=1000), INPUT.ljust(1001)
    fits = gzip.compress(larger[:1000])
    assert client.predict(larger[:1000]) == client.predict(fits, headers=GZIP) == OUTPUT
    for content, headers in (
        (larger, {}),
        (iter([larger[:900], larger[900:]]), {}),
        (gzip.compress(b" " * 10_000_000)[:900], GZIP),
        (gzip.compress(larger), GZIP),
    ):
        status, response = client.predict(content, headers=headers)
        assert status == 413 and "1000 bytes" in response["error"]


def test_large_documents_and_many_rows_are_refused_unparsed(client):
    for body, message in (
        (b'{"inputs": [' + b"[]," * 40_000 + b"0]}", "bytes, and the limit is 8388608"),
        (b'{"instances": [' + b"nonsense," * 10_000 + b"1]}", "has 10001 rows, and"),
    ):
        status, response = client.predict(body)
        assert status == 400 and message in response["error"]


def test_bytes_are_counted_as_they_arrive(client):
    with client.bytes.try_acquire(7 * MIB):
        chunks = [b" " * (MIB // 2), b" " * MIB]
        status, _, body = call_asgi(client.app, "POST", PREDICT, chunks)
    assert status == 429 and b"Too many bytes in flight: 7864320 of 8388608" in body
    assert client.predict() == OUTPUT  # all bytes were released
    with client.bytes.try_acquire(8 * MIB):
        assert client.predict()[0] == 429


def test_slow_bodies_leave_half_of_the_bytes_to_others(make_client):
    client = make_client(message_bytes=MIB, in_flight_bytes=2 * MIB)
    scope = {"type": "http", "method": "POST", "headers": [], "query_string": b""}
    scope |= {"path": PREDICT, "raw_path": PREDICT.encode()}
    chunk = {"type": "http.request", "body": b" " * 800_000, "more_body": True}

    async def send_two():
        slow = asyncio.create_task(run_asgi(client.app, scope, [chunk]))
        await asyncio.sleep(0)
        result = await run_asgi(client.app, scope, [chunk])
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
    assert status == 429 and "requests in flight: 2 of 2" in response["error"]
    assert client.app.running == 0


def test_a_deadline_may_end_in_the_queue(make_client, replace_action):
    run = Mock(return_value=b"{}")
    replace_action(run)
    assert make_client(timeout_s=1e6).predict() == (200, {})
    assert 1e5 < run.call_args.args[1].deadline.remaining_s() <= 1e6
    status, response = make_client(timeout_s=0).predict()
    assert status == 504 and "was over in the queue" in response["error"]
    run.assert_called_once()


def test_requests_and_latencies_are_counted(client):
    for model, body in (("halves", INPUT), ("halves", b"{}"), ("no", INPUT)):
        client.json("POST", f"/v1/models/{model}:predict", body)
    client.json("GET", MODEL)
    page = client.request("GET", METRICS)
    for line in (
        'request_count{model_name="halves",status="OK"} 2',
        'request_count{model_name="halves",status="INVALID_ARGUMENT"} 1',
        'request_count{model_name="no",status="NOT_FOUND"} 1',
        'request_latency_count{model_name="halves",API="predict",entrypoint="REST"} 1',
    ):
        assert f":tensorflow:serving:{line}\n" in page.text
    assert page.headers["content-type"] == "text/plain"


def test_the_metrics_page_has_no_query_and_is_optional(client, make_client):
    response = client.request("GET", f"{METRICS}?a=1")
    assert response.status_code == 400
    assert response.text == f"Unexpected path: {METRICS}?a=1. Should be {METRICS}"
    assert make_client(metrics_path=None).json("GET", METRICS)[0] == 404


def test_any_body_gets_a_result_or_a_client_error(client, servable):
    bodies = draw_body(servable.signatures).map(str.encode) | st.binary()
    names = {200: {"predictions", "outputs", "results"}, 400: {"error"}}

    @settings(max_examples=300)
    @given(st.sampled_from(["predict", "classify"]), bodies)
    def check(action, body):
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        assert len(response) == 1 and response.keys() <= names[status]

    check()
