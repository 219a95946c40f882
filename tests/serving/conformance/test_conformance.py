"""Third-party clients: predictions of the export, errors of the client."""

import json

import pytest

from mmkeras.export import saved_model_session
from mmkeras.schema import CLASSIFY, SERVING_DEFAULT
from tests.serving.conformance import clients, jobs
from tests.serving.conformance.jobs import CLASSIFIER, HALVES

# The clients are downloaded.
pytestmark = pytest.mark.slow

CLIENTS = ["ovmsclient", "ovmsclient by REST", "grpc-js"]
NOT_FOUND = "Servable not found for request: "
# Client -> wrong request -> name of the client's error, and the start of its text.
ERRORS = {
    "ovmsclient": {
        "unknown model": ["ModelNotFoundError", f"{NOT_FOUND}Specific(unknown, 1)"],
        # OpenVINO takes 0 for the newest version.
        "version 0": ["ModelNotFoundError", f"{NOT_FOUND}Specific(halves, 0)"],
        "unknown input": ["InvalidInputError", "Signature input alias: x(feed name: "],
        "status of an unknown model": ["ModelNotFoundError", "Could not find version"],
        "metadata of an unknown model": ["ModelNotFoundError", NOT_FOUND],
    },
    "grpc-js": {
        "unknown model": ["NOT_FOUND", f"{NOT_FOUND}Latest(unknown)"],
        "unknown version": ["NOT_FOUND", f"{NOT_FOUND}Specific(halves, 7)"],
        "unknown signature": ["FAILED_PRECONDITION", "Serving signature key "],
        "missing input": ["INVALID_ARGUMENT", jobs.TEXT_ALONE_ERROR],
        "status of an unknown model": ["NOT_FOUND", "Could not find any versions of"],
    },
}
# REST looks up the inputs of the signature and ignores others.
ERRORS["ovmsclient by REST"] = ERRORS["ovmsclient"] | {
    "unknown input": ["InvalidInputError", "Missing named input: x"]
}


@pytest.fixture(scope="module")
def run_export(export):
    """run_export(feeds, signature) -> outputs of the export without a server."""
    with saved_model_session.load_saved_model(export / "1") as call:
        yield lambda feeds, signature=SERVING_DEFAULT: {
            name: plain(array.tolist())
            for name, array in call(signature, feeds).items()
        }


def plain(value):
    """Returns text for bytes, and floats that compare to six digits."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-6)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_outputs_of_the_export(client, results_of, run_export):
    results = results_of(client)
    assert results["floats"] == [2.5, 3.0, 4.5]
    assert results["rows"] == run_export(jobs.ROWS)
    assert results["rows"]["status"][1].startswith("image absent")


@pytest.mark.parametrize("client", ERRORS)
def test_a_wrong_request_is_an_error_of_the_client(client, results_of):
    errors = results_of(client)["errors"]
    assert errors.keys() == ERRORS[client].keys()
    for request, (name, text) in ERRORS[client].items():
        assert errors[request][0] == name, request
        assert errors[request][1].startswith(text), request


@pytest.mark.parametrize("client", ["ovmsclient", "grpc-js"])
def test_the_metadata_have_the_signature_of_the_export(client, results_of):
    metadata = results_of(client)["metadata"]
    strings = {"dtype": "DT_STRING", "shape": [-1]}
    floats = {"dtype": "DT_FLOAT", "shape": [-1, 2]}
    assert metadata["inputs"] == dict.fromkeys(jobs.ROWS, strings)
    assert metadata["outputs"]["probabilities"] == floats
    assert metadata["model_version"] == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_the_status_of_the_export_is_available(client, results_of):
    assert results_of(client)["status"] == {
        "1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    }


def test_metadata_by_rest_have_the_form_of_tensorflow_serving(results_of):
    # ovmsclient passes on what does not have OpenVINO's form.
    metadata = results_of("ovmsclient by REST")["metadata"]
    assert metadata["model_spec"]["name"] == CLASSIFIER
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {SERVING_DEFAULT, CLASSIFY}
    assert signatures[SERVING_DEFAULT]["inputs"]["text"]["dtype"] == "DT_STRING"


def test_the_health_service_and_the_model_spec_of_a_response(results_of):
    results = results_of("grpc-js")
    serving = {"status": "SERVING"}
    assert results["health"] == {"": serving, "PredictionService": serving}
    spec = {"name": HALVES, "version": 1, "signature_name": SERVING_DEFAULT}
    assert results["spec"] == spec


@pytest.fixture
def post(server):
    """post("MODEL:VERB", body) -> (status, JSON), by curl."""

    def post(path, body):
        url = f"http://{server.rest}/v1/models/{path}"
        return clients.curl("--data", json.dumps(body), url)

    return post


def test_curl_gets_rows_for_rows_and_columns_for_columns(post, run_export):
    halves = [2.5, 3.0, 4.5]
    rows = post(f"{HALVES}:predict", {"instances": jobs.FLOATS})
    assert rows == (200, {"predictions": halves})
    columns = post(f"{HALVES}:predict", {"inputs": jobs.FLOATS})
    assert columns == (200, {"outputs": halves})
    instances = [
        {name: {"b64": jobs.text_of(values[i])} for name, values in jobs.ROWS.items()}
        for i in range(2)
    ]
    status, body = post(f"{CLASSIFIER}:predict", {"instances": instances})
    expected = run_export(jobs.ROWS)
    assert status == 200
    assert body["predictions"] == [
        {name: values[i] for name, values in expected.items()} for i in range(2)
    ]


def test_curl_gets_the_classes_of_an_example_with_their_scores(post, run_export):
    example = jobs.classify_request().input.example_list.examples[0]
    expected = run_export({"inputs": [example.SerializeToString()]}, CLASSIFY)
    examples = [{"text": jobs.ROWS["text"][0].decode()}]
    body = {"signature_name": CLASSIFY, "examples": examples}
    pairs = zip(expected["classes"][0], expected["scores"][0], strict=True)
    assert post(f"{CLASSIFIER}:classify", body) == (
        200,
        {"results": [[list(pair) for pair in pairs]]},
    )


@pytest.mark.parametrize(
    ("model", "body", "status", "text"),
    [
        ("unknown", {"instances": [1.0]}, 404, f"{NOT_FOUND}Latest(unknown)"),
        (HALVES, {}, 400, "Missing 'inputs' or 'instances' key"),
    ],
)
def test_curl_gets_an_error_with_its_status(post, model, body, status, text):
    assert post(f"{model}:predict", body) == (status, {"error": text})
