import gzip
import json
import logging
import time
from unittest.mock import Mock

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server.errors import ServingError
from serving.server.rest.app import ARRIVED, REFUSED, build_app
from tests.serving.server.assertions import call_json, call_wsgi
from tests.serving.server.tiny_data_plane import NAME, TinyDataPlane

MODEL = f"/v1/models/{NAME}"
PREDICT = f"{MODEL}:predict"
METRICS = "/monitoring/prometheus/metrics"
INPUT, OUTPUT = {"inputs": 1}, (200, {"outputs": 2.5})
GZIP = {"HTTP_CONTENT_ENCODING": "gzip"}


class Client:
    """Calls the application of a fake data plane, without a socket."""

    def __init__(self, **settings):
        self.data_plane = TinyDataPlane()
        settings = {"metrics_path": METRICS, **settings}
        self._app = build_app(self.data_plane, **settings)

    def call(self, *args, **environ):
        return call_wsgi(self._app, *args, **environ)

    def json(self, *args, **environ):
        return call_json(self._app, *args, **environ)

    def predict(self, body=INPUT, **environ):
        return self.json("POST", PREDICT, body, **environ)


@pytest.fixture
def client():
    return Client()


@pytest.mark.parametrize(
    "model", [MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/stable"]
)
def test_a_version_is_chosen_by_default_number_or_label(client, model):
    response = client.json("POST", f"{model}:predict", {"instances": [1, 2, 5]})
    assert response == (200, {"predictions": [2.5, 3.0, 4.5]})
    status, response = client.json("GET", model)
    assert (status, response["model_version_status"][0]["version"]) == (200, "1")
    status, response = client.json("GET", f"{model}/metadata")
    assert status == 200
    assert "two" in response["metadata"]["signature_def"]["signature_def"]
    spec = client.data_plane.requests[-1].model_spec
    assert spec.version_label == "stable" * ("labels" in model)
    assert spec.version.value == ("versions" in model)


def test_a_prediction_by_column_a_classification_and_a_regression(client):
    response = client.predict({"inputs": [[1, 2]]})
    assert response == (200, {"outputs": [[2.5, 3.0]]})
    body = {"examples": [{"x": 1.0}, {"x": 2.0}]}
    status, response = client.json("POST", f"{MODEL}:classify", body)
    assert (status, response["results"][1][0]) == (200, ["cat", 0.75])
    response = client.json("POST", f"{MODEL}:regress", body)
    assert response == (200, {"results": [2.5, 3.0]})


def test_names_are_percent_decoded_and_the_path_ignores_case(client):
    path = "/V1/Models/half%5Fplus_two:predict"
    assert client.json("POST", path, INPUT) == OUTPUT
    _, response = client.json("GET", "/v1/models/%C3%A9%ff%zz")
    assert response["error"].endswith("Latest(é\ufffd%zz)")


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        *[
            (method, target, 400, f"Malformed request: {method} {target}")
            for method, target in (
                ("GET", PREDICT),
                ("POST", f"{MODEL}:PREDICT"),
                ("POST", MODEL),
                ("POST", f"{MODEL}:explode"),
                ("PUT", MODEL),
                ("OPTIONS", MODEL),
                ("GET", "/v1/"),
                ("GET", f"{MODEL}/versions/x"),
                ("POST", f"{PREDICT}?x=1"),
            )
        ],
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/versions/3", 400, "Missing model name in request."),
        ("GET", f"{MODEL}/versions/{2**63}", 400, f"version: {2**63} to numeric."),
        ("GET", "/", 404, "There is nothing at GET /"),
        ("GET", "/V2/models", 404, "There is nothing at GET /V2/models"),
        ("GET", "/v1/models/no", 404, "Latest(no)"),
        ("GET", f"{MODEL}/versions/7", 404, f"Specific({NAME}, 7)"),
        ("GET", f"{MODEL}/labels/new", 400, "servable version label: new"),
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
    status, headers, body = client.call("HEAD", MODEL)
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


@pytest.mark.parametrize(
    ("code", "status"), [(c, s) for s, codes in STATUSES.items() for c in codes.split()]
)
def test_each_code_has_its_status(client, code, status):
    client.data_plane.error = ServingError(grpc.StatusCode[code], "x" * 2000)
    line, _, body = client.call("GET", MODEL)
    number, reason = line.split(" ", 1)
    assert number == str(status) and reason
    assert json.loads(body) == {"error": "x" * 1024 + "...TRUNCATED"}


def test_a_bug_is_a_500_and_its_traceback_is_logged(client, caplog):
    client.data_plane.error = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR):
        status, response = client.predict()
    assert status == 500 and "secret" not in response["error"]
    assert "ZeroDivisionError: secret" in caplog.text
    client.data_plane.error = None
    assert client.predict() == OUTPUT


def test_a_body_may_be_compressed(client):
    body = json.dumps({"instances": [1]}).encode()
    members = gzip.compress(body[:5]) + gzip.compress(body[5:])
    for packed in (gzip.compress(body), members):
        assert client.predict(packed, **GZIP) == (200, {"predictions": [2.5]})
    for broken in (body, gzip.compress(body)[:-9], gzip.compress(body) + b"x"):
        status, response = client.predict(broken, **GZIP)
        assert status == 400 and "Content-Encoding: gzip" in response["error"]


def test_a_body_above_the_limit_is_a_413_plain_or_compressed():
    client, body = Client(max_body_bytes=1000), b'{"instances": [1]}'
    fits, larger = body.ljust(1000), body.ljust(1001)
    assert client.predict(fits)[0] == 200
    assert client.predict(gzip.compress(fits), **GZIP)[0] == 200
    bomb = gzip.compress(b" " * 10_000_000)[:900]
    for status, response in (
        client.predict(larger),
        client.predict(bomb, **GZIP),
        client.predict(gzip.compress(larger), **GZIP),
    ):
        assert status == 413 and "more than 1000 bytes" in response["error"]


def test_the_timeout_counts_from_the_arrival():
    client = Client(timeout_s=60)
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
    status, headers, page = client.call("GET", METRICS)
    assert (status, headers["Content-Type"]) == ("200 OK", "text/plain")
    page = page.decode()
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="{NAME}",status="OK"}} 2\n' in page
    assert f'{count}{{model_name="{NAME}",status="INVALID_ARGUMENT"}} 1\n' in page
    assert f'{count}{{model_name="no",status="NOT_FOUND"}} 1\n' in page
    latency = ":tensorflow:serving:request_latency_count"
    labels = f'model_name="{NAME}",API="predict",entrypoint="REST"'
    assert f"{latency}{{{labels}}} 1\n" in page
    assert list(text_string_to_metric_families(page))


def test_the_metrics_page_has_no_query_and_is_optional(client):
    status, _, body = client.call("GET", f"{METRICS}?a=1")
    assert status == "400 Bad Request"
    assert body.decode() == f"Unexpected path: {METRICS}?a=1. Should be {METRICS}"
    assert Client(metrics_path=None).json("GET", METRICS)[0] == 404


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "a", "b", "b64", "f"]), inner)
    ),
    max_leaves=10,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(sorted(TinyDataPlane().known_signatures))
        | values,
        "instances": values,
        "inputs": values,
        "examples": values,
        "context": values,
    },
)
SHARED = Client()


@settings(max_examples=400)
@given(st.sampled_from(["predict", "classify"]), bodies | values | st.binary())
def test_any_body_gets_a_result_or_a_client_error(action, body):
    status, response = SHARED.json("POST", f"{MODEL}:{action}", body)
    if status == 200:
        assert set(response) <= {"predictions", "outputs", "results"}
    else:
        assert status in (400, 501) and list(response) == ["error"]


@given(st.text(st.characters(max_codepoint=255)), st.sampled_from(["GET", "POST", "X"]))
def test_any_path_gets_a_client_error(path, method):
    status, response = SHARED.json(method, f"/v1/models/{path}")
    assert status in (400, 404) and list(response) == ["error"]
