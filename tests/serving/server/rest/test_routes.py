import pytest

from serving.server.rest.routes import parse_route
from tests.serving.server.assertions import serving_error

MODEL = "/v1/models/m"


@pytest.mark.parametrize(
    ("method", "target", "action", "spec"),
    [
        ("POST", f"{MODEL}:predict", "predict", {}),
        ("POST", f"{MODEL}/versions/3:classify", "classify", {"version": {"value": 3}}),
        ("GET", f"{MODEL}/labels/new", "status", {"version_label": "new"}),
        ("GET", "/V1/Models/%6d/metadata", "metadata", {}),
        ("GET", "/v1/models/%C3%A9%ff%zz", "status", {"name": "é\ufffd%zz"}),
        ("OPTIONS", "/v1/anything", "options", {"name": ""}),
    ],
)
def test_a_path_has_an_action_and_a_model(method, target, action, spec):
    route = parse_route(method, target)
    assert route.action == action
    assert route.spec == type(route.spec)(**{"name": "m", **spec})


MALFORMED = [f"GET {MODEL}:predict", f"POST {MODEL}:PREDICT", f"POST {MODEL}:explode"]
MALFORMED += [f"POST {MODEL}", f"PUT {MODEL}", "GET /v1/", f"GET {MODEL}/versions/x"]
MALFORMED += [f"POST {MODEL}:predict?x=1", "GET /v1/models/" + "m/" * 10_000]


@pytest.mark.parametrize(
    ("method", "target", "code", "message"),
    [
        *[
            (*line.split(), "INVALID_ARGUMENT", f"Malformed request: {line}")
            for line in MALFORMED
        ],
        ("GET", "/v1/models", "INVALID_ARGUMENT", "Missing model name in request."),
        ("GET", "/v1/models/versions/3", "INVALID_ARGUMENT", "Missing model name"),
        ("GET", f"{MODEL}/versions/{2**63}", "INVALID_ARGUMENT", f"version: {2**63} "),
        ("GET", f"{MODEL}/versions/{'9' * 9999}", "INVALID_ARGUMENT", "Failed to conv"),
        ("GET", "/", "NOT_FOUND", "There is nothing at GET /"),
        ("GET", "/V2/models", "NOT_FOUND", "There is nothing at GET /V2/models"),
    ],
)
def test_another_path_is_an_error(method, target, code, message):
    error = serving_error(parse_route, method, target)
    assert error.code.name == code and message in error.message
