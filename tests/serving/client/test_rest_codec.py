"""REST: paths, sizes, and what is read of a body."""

import pytest

from serving.client import rest_codec
from serving.client.errors import PredictError
from serving.client.requests import (
    ClassNamesCall,
    MetadataCall,
    ModelSpec,
    PredictCall,
    VersionsCall,
)

BOTH = ModelSpec(model="a/b c", label="x:y")


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (MetadataCall(spec=ModelSpec(model="m")), "GET", "/v1/models/m/metadata"),
        (
            MetadataCall(spec=BOTH),
            "GET",
            "/v1/models/a%2Fb%20c/labels/x%3Ay/metadata",
        ),
        (
            ClassNamesCall(spec=BOTH.at(3), modality="text"),
            "POST",
            "/v1/models/a%2Fb%20c/versions/3:classify",
        ),
        (
            PredictCall(spec=ModelSpec(model="m"), columns={"text": [b"a"]}),
            "POST",
            "/v1/models/m:predict",
        ),
        (VersionsCall(model="m"), "GET", "/v1/models/m"),
    ],
)
def test_names_are_written_so_that_they_cannot_change_the_path(call, method, path):
    sent = rest_codec.send(call, "t")
    assert (sent.method, sent.path) == (method, path)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 1001])
def test_a_row_is_no_larger_than_reckoned(size):
    row = {"text": b"x" * size, "image": b"y" * size}
    columns = {name: [content] * 50 for name, content in row.items()}
    sent = rest_codec.send(PredictCall(spec=ModelSpec(model="m"), columns=columns), "t")
    assert len(sent.content) <= 50 * rest_codec.row_bytes(row) + 2048
    assert len(sent.content) > 50 * rest_codec.row_bytes(row) * 0.6


@pytest.mark.parametrize(
    ("wait", "expected"),
    [("3", 3.0), (" 3 ", 3.0), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)],
)
def test_seconds_to_wait_are_read_and_dates_are_left(wait, expected):
    sent = rest_codec.send(VersionsCall(model="m"), "t")
    with pytest.raises(PredictError) as error:
        sent.read(503, wait, b'{"error": "full"}')
    assert error.value.retry_after_s == expected and error.value.message == "full"
