"""REST: paths, Retry-After, and responses that are unlike TensorFlow Serving's."""

import json

import pytest

from serving.client import rest_codec
from serving.client.errors import PredictError
from serving.client.requests import (
    ClassNamesCall,
    ColumnsCall,
    MetadataCall,
    ModelSpec,
    PredictCall,
    VersionsCall,
)

ODD = ModelSpec(model="a/b c", label="x:y")
PLAIN = ModelSpec(model="m")
CALLS = [
    PredictCall(spec=PLAIN, columns={"text": [b"a"]}),
    MetadataCall(spec=PLAIN),
    ColumnsCall(spec=PLAIN),
    ClassNamesCall(spec=PLAIN, row={"text": b""}),
    VersionsCall(model="m"),
]
DEEP = [b"[" * 200_000, b'{"a":' * 200_000, b'{"error":' + b"[" * 200_000]
OUTPUTS = {
    "probabilities": [[0.9, 0.1]],
    "label": ["a"],
    "score": [0.9],
    "status": ["ok"],
}


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (MetadataCall(spec=PLAIN), "GET", "m/metadata"),
        (MetadataCall(spec=ODD), "GET", "a%2Fb%20c/labels/x%3Ay/metadata"),
        (
            ClassNamesCall(spec=ODD.at(3), row={"text": b""}),
            "POST",
            "a%2Fb%20c/versions/3:classify",
        ),
        (PredictCall(spec=PLAIN, columns={"text": [b"a"]}), "POST", "m:predict"),
        (ColumnsCall(spec=PLAIN), "POST", "m:predict"),
        (VersionsCall(model="m"), "GET", "m"),
    ],
)
def test_names_are_quoted_in_the_path(call, method, path):
    encoded = rest_codec.encode(call, "t")
    assert (encoded.method, encoded.path) == (method, f"/v1/models/{path}")


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [("3", 3.0), (" 3 ", 3.0), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)],
)
def test_retry_after_is_read_as_seconds_only(retry_after, expected):
    encoded = rest_codec.encode(VersionsCall(model="m"), "t")
    with pytest.raises(PredictError) as error:
        encoded.decode(503, retry_after, b'{"error": "full"}')
    assert error.value.retry_after_s == expected and error.value.message == "full"


def send(call, status, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rest_codec.encode(call, "t").decode(status, None, content)


def error_of(call, status, body):
    with pytest.raises(PredictError) as error:
        send(call, status, body)
    return error.value


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
@pytest.mark.parametrize(
    "body", [*DEEP, b"", b"[]", b"\xff", b"9" * 5000], ids=lambda body: repr(body[:9])
)
def test_an_unreadable_response_is_an_error_that_shows_its_first_bytes(call, body):
    error = error_of(call, 200, body)
    assert (error.code, error.is_from_server) == ("INTERNAL", False)
    assert body[:300].decode("utf-8", "replace") in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("body", DEEP, ids=lambda body: repr(body[:9]))
def test_an_unreadable_error_keeps_the_code_and_shows_its_first_bytes(body):
    error = error_of(CALLS[0], 404, body)
    assert (error.code, error.message) == ("NOT_FOUND", body[:300].decode())


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": [[10**400, 0]]},
        {"score": [10**400]},
        {"probabilities": [[0.9, 0.1], [1.0]]},
        {"probabilities": 1},
        {"label": None},
    ],
)
def test_outputs_that_are_no_numbers_or_no_matrix_are_an_error(change):
    assert send(CALLS[0], 200, {"outputs": OUTPUTS}).probabilities == [[0.9, 0.1]]
    error = error_of(CALLS[0], 200, {"outputs": OUTPUTS | change})
    assert error.code == "INTERNAL" and "unlike TensorFlow Serving's" in error.message


@pytest.mark.parametrize(
    ("version", "inputs"), [(float("inf"), {}), ("3", [1]), ("3", ["a"]), ([], {})]
)
def test_metadata_of_other_types_are_an_error(version, inputs):
    signatures = {"signature_def": {"signature_def": {"s": {"inputs": inputs}}}}
    body = {"model_spec": {"version": version}, "metadata": signatures}
    assert error_of(MetadataCall(spec=PLAIN), 200, body).code == "INTERNAL"


def test_half_a_surrogate_pair_is_a_question_mark():
    changed = OUTPUTS | {"label": ["\ud800"], "status": ["ok \udfff"]}
    outputs = send(CALLS[0], 200, {"outputs": changed})
    assert (outputs.labels, outputs.statuses) == (["?"], ["ok ?"])
    call = ClassNamesCall(spec=PLAIN, row={"text": b""})
    assert send(call, 200, {"results": [[["\ud800", 0.1]]]}) == ("?",)
    assert error_of(call, 500, {"error": "\ud800"}).message == "?"


TEXTS = {
    "text": ["a cat"],
    "score": [-0.5],
    "status": ["ok"],
    "n_best": [["a cat", "cat"]],
    "n_best_score": [[-0.5, -1.5]],
}


def test_texts_of_a_generator_are_read_with_and_without_the_n_best():
    outputs = send(CALLS[0], 200, {"outputs": TEXTS})
    assert (outputs.texts, outputs.scores, outputs.statuses) == (
        ["a cat"],
        [-0.5],
        ["ok"],
    )
    assert outputs.n_best == [["a cat", "cat"]]
    assert outputs.n_best_scores == [[-0.5, -1.5]] and outputs.probabilities == []
    few = {name: TEXTS[name] for name in ("text", "score", "status")}
    outputs = send(CALLS[0], 200, {"outputs": few})
    assert outputs.texts == ["a cat"] and outputs.n_best == outputs.n_best_scores == []


@pytest.mark.parametrize(
    "change",
    [
        {"n_best": [["a"], ["a", "b"]]},
        {"n_best": 1},
        {"n_best_score": [["a"]]},
        {"score": ["x"]},
        {"status": None},
    ],
)
def test_texts_of_other_types_are_an_error(change):
    error = error_of(CALLS[0], 200, {"outputs": TEXTS | change})
    assert error.code == "INTERNAL" and "unlike TensorFlow Serving's" in error.message
