import gzip
import json
import logging
import re
import time
from unittest.mock import Mock

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.server.errors import ServingError
from serving.server.rest.app import ARRIVED, REFUSED, build_app
from tests.serving.fuzzing.http_requests import draw_body
from tests.serving.server.assertions import call_json, call_wsgi
from tests.serving.server.recording_data_plane import RecordingDataPlane

MODEL = "/v1/models/halves"
PREDICT = f"{MODEL}:predict"
METRICS = "/monitoring/prometheus/metrics"
INPUT, OUTPUT = {"inputs": [1]}, (200, {"outputs": [2.5]})
GZIP = {"HTTP_CONTENT_ENCODING": "gzip"}
MIB = 2**20


class Client:
    """Calls the application without a socket."""

    def __init__(self, data_plane, **settings):
        self.data_plane = RecordingDataPlane(data_plane)
        settings = {"metrics_path": METRICS, **settings}
        self.app = build_app(self.data_plane, **settings)

    def json(self, *args, **environ):
        return call_json(self.app, *args, **environ)

    def predict(self, body=INPUT, **environ):
        return self.json("POST", PREDICT, body, **environ)


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
    assert (status, response["model_version_status"][0]["version"]) == (200, "1")
    status, response = client.json("GET", f"{model}/metadata")
    assert status == 200
    assert "echo" in response["metadata"]["signature_def"]["signature_def"]
    spec = client.data_plane.requests[-1].model_spec
    assert spec.version_label == "stable" * ("labels" in model)
    assert spec.version.value == ("versions" in model)


def test_a_prediction_by_column_a_classification_and_a_regression(client):
    assert client.predict({"inputs": [1, 2]}) == (200, {"outputs": [2.5, 3.0]})
    for action, result in (("classify", [["low", 0], ["high", 1]]), ("regress", 52)):
        body = {"signature_name": action, "examples": [{"x": 1.0}, {"x": 100.0}]}
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        assert (status, response["results"][1]) == (200, result)


def test_names_are_percent_decoded_and_the_path_ignores_case(client):
    assert client.json("POST", "/V1/Models/h%61lves:predict", INPUT) == OUTPUT
    _, response = client.json("GET", "/v1/models/%C3%A9%ff%zz")
    assert response["error"].endswith("model é\ufffd%zz")


MALFORMED = [f"GET {PREDICT}", f"POST {MODEL}:PREDICT", f"POST {MODEL}:explode"]
MALFORMED += [f"POST {MODEL}", f"PUT {MODEL}", f"OPTIONS {MODEL}", "GET /v1/"]
MALFORMED += [f"GET {MODEL}/versions/x", f"POST {PREDICT}?x=1"]


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        *[(*line.split(), 400, f"Malformed request: {line}") for line in MALFORMED],
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/versions/3", 400, "Missing model name in request."),
        ("GET", f"{MODEL}/versions/{2**63}", 400, f"version: {2**63} to numeric."),
        ("GET", "/", 404, "There is nothing at GET /"),
        ("GET", "/V2/models", 404, "There is nothing at GET /V2/models"),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", f"{MODEL}/versions/7/metadata", 404, "Specific(halves, 7)"),
        ("GET", f"{MODEL}/labels/new/metadata", 400, "servable version label: new"),
        ("POST", PREDICT, 400, "The document is empty"),
    ],
)
def test_an_invalid_request_is_an_error(client, method, target, status, message):
    response_status, response = client.json(method, target)
    assert response_status == status and response["error"].endswith(message)


def test_an_absolute_url_and_a_wsgi_server_without_request_uri_are_supported(client):
    assert client.json("POST", f"http://a:1{PREDICT}", INPUT) == OUTPUT
    environ = {"REQUEST_URI": None, "PATH_INFO": PREDICT}
    assert client.json("POST", "", INPUT, **environ) == OUTPUT


def test_a_head_response_has_no_body(client):
    status, headers, body = call_wsgi(client.app, "HEAD", MODEL)
    assert (status, body) == ("400 Bad Request", b"")
    assert int(headers["Content-Length"]) > 0


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


def test_a_body_above_the_limit_is_a_413_plain_or_compressed(make_client):
    client, body = make_client(max_body_bytes=1000), json.dumps(INPUT).encode()
    fits, larger = body.ljust(1000), body.ljust(1001)
    assert client.predict(fits) == client.predict(gzip.compress(fits), **GZIP) == OUTPUT
    bomb = gzip.compress(b" " * 10_000_000)[:900]
    for status, response in (
        client.predict(larger),
        client.predict(bomb, **GZIP),
        client.predict(gzip.compress(larger), **GZIP),
    ):
        assert status == 413 and "more than 1000 bytes" in response["error"]


def test_a_small_gzip_body_cannot_become_a_large_document(make_client):
    client = make_client(max_parsed_bytes=MIB)
    body = b'{"instances": [' + b"[]," * 20_000 + b"0]}"
    for part, is_large in ((body, True), (body.replace(b"[],", b""), False)):
        status, response = client.predict(gzip.compress(part), **GZIP)
        assert status == (400 if is_large else 200)
        assert ("bytes of parsed bodies" in str(response)) == is_large


def test_decompression_stops_where_the_shared_memory_ends(client):
    bomb, unread = gzip.compress(bytes(6 * MIB)), Mock()
    with client.data_plane.bytes.try_acquire(4 * MIB):
        status, response = client.predict(bomb, **GZIP)
    assert status == 429
    match = re.match(r"Too many bytes .*flight: (\d+) of 8388608", response["error"])
    assert 6 * MIB < int(match[1]) <= 8 * MIB
    with client.data_plane.bytes.try_acquire(8 * MIB):  # all memory was released
        assert client.predict(bomb, **GZIP, **{"wsgi.input": unread})[0] == 429
    assert not unread.read.called


def test_the_timeout_counts_from_the_arrival(make_client):
    client = make_client(timeout_s=60)
    client.predict()
    assert 50 < client.data_plane.deadlines[-1].remaining_s() <= 60
    assert client.predict(**{ARRIVED: time.monotonic() - 20})[0] == 200
    assert 30 < client.data_plane.deadlines[-1].remaining_s() <= 40
    client.data_plane.requests.clear()
    unread = Mock()
    environ = {ARRIVED: time.monotonic() - 61, "wsgi.input": unread}
    status, response = client.predict(**environ)
    assert status == 504 and "was over in the queue" in response["error"]
    assert not unread.read.called and not client.data_plane.requests


def test_a_rejected_request_is_an_error_and_not_run(client):
    error = ServingError(grpc.StatusCode.UNAVAILABLE, "too much")
    assert client.predict(**{REFUSED: error}) == (503, {"error": "too much"})
    assert not client.data_plane.requests


def test_requests_and_latencies_are_counted(client):
    client.predict()
    client.predict({"inputs": "a"})
    client.json("POST", "/v1/models/no:predict", INPUT)
    client.json("GET", MODEL)
    status, headers, page = call_wsgi(client.app, "GET", METRICS)
    assert (status, headers["Content-Type"]) == ("200 OK", "text/plain")
    page = page.decode()
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
    status, _, body = call_wsgi(client.app, "GET", f"{METRICS}?a=1")
    assert status == "400 Bad Request"
    assert body.decode() == f"Unexpected path: {METRICS}?a=1. Should be {METRICS}"
    assert make_client(metrics_path=None).json("GET", METRICS)[0] == 404


def test_any_body_gets_a_result_or_a_client_error(client, data_plane):
    signatures = data_plane.signatures(ModelSpec(name="halves"))
    bodies = draw_body(signatures).map(str.encode) | st.binary()

    @settings(max_examples=400)
    @given(st.sampled_from(["predict", "classify"]), bodies)
    def check(action, body):
        status, response = client.json("POST", f"{MODEL}:{action}", body)
        if status == 200:
            (name,) = response
            assert name in {"predictions", "outputs", "results"}
        else:
            assert status == 400 and list(response) == ["error"]

    check()


def test_any_path_gets_a_client_error(client):
    @given(
        st.text(st.characters(max_codepoint=255)), st.sampled_from(["GET", "POST", "X"])
    )
    def check(path, method):
        status, response = client.json(method, f"/v1/models/{path}")
        assert status in (400, 404) and list(response) == ["error"]

    check()
