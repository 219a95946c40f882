"""REST requests: paths, size estimate, Retry-After."""

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

ODD = ModelSpec(model="a/b c", label="x:y")
PLAIN = ModelSpec(model="m")


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (MetadataCall(spec=PLAIN), "GET", "m/metadata"),
        (MetadataCall(spec=ODD), "GET", "a%2Fb%20c/labels/x%3Ay/metadata"),
        (
            ClassNamesCall(spec=ODD.at(3), modality="text"),
            "POST",
            "a%2Fb%20c/versions/3:classify",
        ),
        (PredictCall(spec=PLAIN, columns={"text": [b"a"]}), "POST", "m:predict"),
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
