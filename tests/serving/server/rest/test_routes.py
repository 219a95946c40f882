import pytest
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.server.rest.routes import Route, parse_route
from tests.serving.server.assertions import serving_error

M = "/v1/models/m"


@pytest.mark.parametrize(
    ("line", "action", "spec"),
    [
        (f"POST {M}:predict", "predict", {}),
        (f"POST {M}/versions/3:classify", "classify", {"version": {"value": 3}}),
        (f"GET {M}/labels/new", "status", {"version_label": "new"}),
        ("GET /V1/Models/%6d/metadata", "metadata", {}),
        ("GET /v1/models/%C3%A9%ff%zz", "status", {"name": "é\ufffd%zz"}),
        ("OPTIONS /v1/anything", "options", {"name": ""}),
    ],
)
def test_a_path_has_an_action_and_a_model(line, action, spec):
    route = parse_route(*line.split())
    assert route == Route(action, ModelSpec(**{"name": "m", **spec}))


MALFORMED = [f"GET {M}:predict", f"POST {M}:PREDICT", f"POST {M}:explode", f"POST {M}"]
MALFORMED += [f"PUT {M}", f"GET {M}/versions/x", f"POST {M}:predict?x=1"]
MALFORMED += ["GET /v1/", "GET /v1/models/" + "m/" * 10_000]
NO_MODEL = ["GET /v1/models", "GET /v1/models/versions/3"]
LARGE = [f"GET {M}/versions/{number}" for number in (2**63, "9" * 9999)]


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        ("INVALID_ARGUMENT Malformed request: {}", MALFORMED),
        ("INVALID_ARGUMENT Missing model name in request.", NO_MODEL),
        ("INVALID_ARGUMENT Failed to convert version: ", LARGE),
        ("NOT_FOUND There is nothing at {}", ["GET /", "GET /V2/models"]),
    ],
)
def test_another_path_is_an_error(start, lines):
    for line in lines:
        error = serving_error(parse_route, *line.split())
        assert f"{error.code.name} {error.message}".startswith(start.format(line))
