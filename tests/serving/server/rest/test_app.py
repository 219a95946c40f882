import gzip
import io
import json
import logging
import time
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.server.errors import ServingError
from serving.server.rest.app import ARRIVED, REFUSED, build_app
from tests.serving.server.tiny_data_plane import NAME, SmallCore

MODEL = f"/v1/models/{NAME}"
METRICS = "/monitoring/prometheus/metrics"


class Client:
    """Calls an application without a wire.

    Attributes:
        core: The core behind it.
    """

    def __init__(self, **settings):
        self.core = SmallCore()
        self._app = build_app(self.core, metrics_path=METRICS, **settings)

    def call(self, method, target, body=b"", **environ):
        """Returns the status, the headers and the body of the answer."""
        said = []
        environ = {
            "REQUEST_METHOD": method,
            "REQUEST_URI": target,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            **environ,
        }
        body = b"".join(self._app(environ, lambda *answer: said.append(answer)))
        ((status, headers),) = said
        return status, dict(headers), body

    def json(self, method, target, body=None, **environ):
        """Returns the number of the status and the JSON of the answer."""
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        status, headers, answer = self.call(method, target, body, **environ)
        assert headers["Content-Type"] == "application/json"
        assert int(headers["Content-Length"]) == len(answer)
        return int(status.split()[0]), json.loads(answer)


@pytest.fixture
def client():
    return Client()


def test_a_prediction_by_row_and_by_column(client):
    for target in (MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/stable"):
        answer = client.json("POST", f"{target}:predict", {"instances": [1, 2, 5]})
        assert answer == (200, {"predictions": [2.5, 3.0, 4.5]})
    answer = client.json("POST", f"{MODEL}:predict", {"inputs": [[1, 2]]})
    assert answer == (200, {"outputs": [[2.5, 3.0]]})


def test_a_classification_and_a_regression(client):
    body = {"examples": [{"x": 1.0}, {"x": 2.0}]}
    status, answer = client.json("POST", f"{MODEL}:classify", body)
    assert (status, answer["results"][1][0]) == (200, ["cat", 0.75])
    answer = client.json("POST", f"{MODEL}:regress", body)
    assert answer == (200, {"results": [2.5, 3.0]})


def test_status_and_metadata_of_a_model_a_version_and_a_label(client):
    for model in (MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/stable"):
        status, answer = client.json("GET", model)
        assert (status, answer["model_version_status"][0]["version"]) == (200, "1")
        status, answer = client.json("GET", f"{model}/metadata")
        assert status == 200
        assert "two" in answer["metadata"]["signature_def"]["signature_def"]
    assert client.core.requests[-1].model_spec.version_label == "stable"
    assert client.core.requests[2].model_spec.version.value == 1


def test_names_are_percent_decoded_and_letters_of_the_path_may_be_large(client):
    answer = client.json("POST", "/V1/Models/half%5Fplus_two:predict", {"inputs": 1})
    assert answer == (200, {"outputs": 2.5})
    _, answer = client.json("GET", "/v1/models/%C3%A9%ff%zz")
    assert answer["error"].endswith("Latest(é\ufffd%zz)")


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", f"{MODEL}:predict", 400, f"Malformed request: GET {MODEL}:predict"),
        ("POST", f"{MODEL}:PREDICT", 400, f"Malformed request: POST {MODEL}:PREDICT"),
        ("POST", MODEL, 400, f"Malformed request: POST {MODEL}"),
        ("POST", f"{MODEL}:explode", 400, f"Malformed request: POST {MODEL}:explode"),
        ("PUT", MODEL, 400, f"Malformed request: PUT {MODEL}"),
        ("OPTIONS", MODEL, 400, f"Malformed request: OPTIONS {MODEL}"),
        ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/versions/3", 400, "Missing model name in request."),
        (
            "GET",
            f"{MODEL}/versions/x",
            400,
            f"Malformed request: GET {MODEL}/versions/x",
        ),
        (
            "GET",
            f"{MODEL}/versions/9223372036854775808",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        ("GET", "/", 404, "There is nothing at GET /"),
        ("GET", "/V2/models", 404, "There is nothing at GET /V2/models"),
        ("GET", "/v1/models/no", 404, "Servable not found for request: Latest(no)"),
        (
            "GET",
            f"{MODEL}/versions/7",
            404,
            f"Servable not found for request: Specific({NAME}, 7)",
        ),
        (
            "GET",
            f"{MODEL}/labels/new",
            400,
            "Unrecognized servable version label: new",
        ),
        ("POST", f"{MODEL}:predict", 400, "JSON Parse error: The document is empty"),
    ],
)
def test_a_wrong_request_is_an_error(client, method, target, status, message):
    assert client.json(method, target) == (status, {"error": message})


def test_an_absolute_address_and_a_query_are_understood_as_tf_serving_does(client):
    answer = client.json("POST", f"http://a:1{MODEL}:predict", {"inputs": 1})
    assert answer == (200, {"outputs": 2.5})
    target = f"{MODEL}:predict?x=1"
    message = f"Malformed request: POST {target}"
    assert client.json("POST", target, {"inputs": 1}) == (400, {"error": message})


def test_a_server_that_says_no_request_uri_is_served_too(client):
    environ = {"REQUEST_URI": None, "PATH_INFO": f"{MODEL}:predict"}
    answer = client.json("POST", "", {"inputs": 1}, **environ)
    assert answer == (200, {"outputs": 2.5})


def test_head_has_no_body(client):
    status, headers, body = client.call("HEAD", MODEL)
    assert (status, body) == ("400 Bad Request", b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("OUT_OF_RANGE", 400),
        ("NOT_FOUND", 404),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("INTERNAL", 500),
        ("UNKNOWN", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_each_code_has_its_status(client, code, status):
    client.core.fails = ServingError(grpc.StatusCode[code], "x" * 2000)
    said, headers, body = client.call("GET", MODEL)
    assert said.split()[0] == str(status)
    assert len(said.split()) > 1
    assert json.loads(body) == {"error": "x" * 1024 + "...TRUNCATED"}


def test_a_fault_of_ours_is_a_500_and_its_traceback_is_logged(client, caplog):
    client.core.fails = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR):
        status, answer = client.json("POST", f"{MODEL}:predict", {"inputs": 1})
    assert (status, answer) == (
        500,
        {"error": "Internal error: the server's log has more."},
    )
    assert "ZeroDivisionError: secret" in caplog.text
    client.core.fails = None
    assert client.json("POST", f"{MODEL}:predict", {"inputs": 1})[0] == 200


def test_each_request_has_a_deadline():
    client = Client(timeout_s=7)
    client.json("POST", f"{MODEL}:predict", {"inputs": 1})
    assert 0 < client.core.deadlines[-1].remaining_s() <= 7


def test_a_body_may_be_compressed(client):
    body = json.dumps({"instances": [1]}).encode()
    gzipped = {"HTTP_CONTENT_ENCODING": "gzip"}
    twice = gzip.compress(body[:5]) + gzip.compress(body[5:])
    for packed in (gzip.compress(body), twice):
        answer = client.json("POST", f"{MODEL}:predict", packed, **gzipped)
        assert answer == (200, {"predictions": [2.5]})
    for broken in (body, gzip.compress(body)[:-9], gzip.compress(body) + b"x"):
        status, answer = client.json("POST", f"{MODEL}:predict", broken, **gzipped)
        assert status == 400
        assert "not what its Content-Encoding: gzip says" in answer["error"]


def test_a_body_that_is_or_inflates_too_large_is_a_413():
    client = Client(max_body_bytes=1000)
    message = "The body has more than 1000 bytes, which is the most that is taken."
    body = b'{"instances": [1]}'
    assert client.json("POST", f"{MODEL}:predict", body.ljust(1000))[0] == 200
    answer = client.json("POST", f"{MODEL}:predict", body.ljust(1001))
    assert answer == (413, {"error": message})
    gzipped = {"HTTP_CONTENT_ENCODING": "gzip"}
    bomb = gzip.compress(b" " * 10_000_000)[:900]
    for packed in (bomb, gzip.compress(body.ljust(1001))):
        answer = client.json("POST", f"{MODEL}:predict", packed, **gzipped)
        assert answer == (413, {"error": message})
    fits = gzip.compress(body.ljust(1000))
    assert client.json("POST", f"{MODEL}:predict", fits, **gzipped)[0] == 200


def test_the_time_of_a_request_counts_from_its_arrival():
    client = Client(timeout_s=60)
    before = {ARRIVED: time.monotonic() - 20}
    assert client.json("POST", f"{MODEL}:predict", {"inputs": 1}, **before)[0] == 200
    assert 30 < client.core.deadlines[-1].remaining_s() <= 40
    client.core.requests.clear()
    unread, before = Mock(), {ARRIVED: time.monotonic() - 61}
    before["wsgi.input"] = unread
    status, answer = client.json("POST", f"{MODEL}:predict", {"inputs": 1}, **before)
    assert status == 504 and "was over in the queue" in answer["error"]
    assert not unread.read.called and not client.core.requests


def test_a_request_that_the_door_refuses_is_its_error(client):
    reason = {REFUSED: ServingError(grpc.StatusCode.UNAVAILABLE, "too much")}
    answer = client.json("POST", f"{MODEL}:predict", {"inputs": 1}, **reason)
    assert answer == (503, {"error": "too much"})
    assert not client.core.requests


def test_requests_and_latencies_are_counted(client):
    client.json("POST", f"{MODEL}:predict", {"inputs": 1})
    client.json("POST", f"{MODEL}:predict", {"inputs": "a"})
    client.json("POST", "/v1/models/no:predict", {"inputs": 1})
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


def test_the_page_of_metrics_takes_no_query_and_may_be_closed(client):
    status, _, body = client.call("GET", f"{METRICS}?a=1")
    assert status == "400 Bad Request"
    assert body.decode() == f"Unexpected path: {METRICS}?a=1. Should be {METRICS}"
    closed = build_app(SmallCore(), metrics_path=None)
    said = []
    environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": METRICS}
    closed(environ, lambda *answer: said.append(answer))
    assert said[0][0] == "404 Not Found"


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
        "signature_name": st.sampled_from(sorted(SmallCore().known)) | values,
        "instances": values,
        "inputs": values,
        "examples": values,
        "context": values,
    },
)
FUZZED = Client()


def check(action, body):
    """Checks that an answer is a result, or an error of whoever sent the body."""
    status, answer = FUZZED.json("POST", f"{MODEL}:{action}", body)
    if status == 200:
        assert set(answer) <= {"predictions", "outputs", "results"}
    else:
        assert status in (400, 501)
        assert list(answer) == ["error"]


@settings(max_examples=300)
@given(st.sampled_from(["predict", "classify"]), bodies | values)
def test_any_json_is_answered(action, body):
    check(action, body)


@given(st.sampled_from(["predict", "classify"]), st.binary())
def test_any_bytes_are_answered(action, body):
    check(action, body)


@given(st.text(st.characters(max_codepoint=255)), st.sampled_from(["GET", "POST", "X"]))
def test_any_path_is_answered(path, method):
    status, answer = FUZZED.json(method, f"/v1/models/{path}")
    assert status in (400, 404)
    assert list(answer) == ["error"]


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize("kind", ["float", "double", "int64"])
def test_numbers_come_back_to_the_last_bit(key, kind):
    width = 32 if kind == "float" else 64
    numbers = st.floats(width=width) | st.sampled_from([0.1, 1e-45, 3.4e38])
    if kind == "int64":
        numbers = st.integers(-(2**63), 2**63 - 1)

    @given(st.lists(numbers, min_size=1))
    def come_back(sent):
        body = {"signature_name": f"echo_{kind}", key: sent}
        status, answer = FUZZED.json("POST", f"{MODEL}:predict", body)
        assert status == 200
        dtype = {"float": np.float32, "double": np.float64, "int64": np.int64}[kind]
        (read,) = answer.values()
        same = np.array_equal(
            np.array(read, dtype), np.array(sent, dtype), equal_nan=kind != "int64"
        )
        assert same

    come_back()
