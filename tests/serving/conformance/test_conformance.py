"""Clients that nobody here wrote get the export's own answers, and their own errors."""

import json

import pytest

from mmkeras.export import saved_model_session
from mmkeras.schema import CLASSIFY, SERVING_DEFAULT
from tests.serving.conformance import clients, jobs
from tests.serving.conformance.jobs import CLASSIFIER, HALVES

pytestmark = pytest.mark.e2e

ANSWERING = ["ovmsclient", "ovmsclient by REST", "min-tfs-client", "grpc-js"]
LATEST = "Servable not found for request: Latest(nobody)"
FIRST = "Servable not found for request: Specific(nobody, 1)"
ZEROTH = "Servable not found for request: Specific(half_plus_two, 0)"
SEVENTH = "Servable not found for request: Specific(half_plus_two, 7)"
# What each client raises for each wrong request, and what that says.
ERRORS = {
    "ovmsclient": {
        "unknown model": ["ModelNotFoundError", FIRST],
        "unknown version": ["ModelNotFoundError", SEVENTH],
        # OpenVINO takes 0 for the newest.
        "its own default, version 0": ["ModelNotFoundError", ZEROTH],
        # As TensorFlow's own library words it since 2.13, where the number is right.
        "unknown input": [
            "InvalidInputError",
            "Signature input alias: x(feed name: serving_default_x:0) not found in "
            "request and no default value provided. Inputs expected to be in the "
            "request {z}, or default input alias set: ",
        ],
        "status of an unknown model": [
            "ModelNotFoundError",
            "Could not find version 1 of model nobody",
        ],
        "metadata of an unknown model": ["ModelNotFoundError", FIRST],
    },
    "min-tfs-client": {
        "unknown model": ["NOT_FOUND", LATEST],
        "unknown version": ["NOT_FOUND", SEVENTH],
        "missing input": ["INVALID_ARGUMENT", jobs.TEXT_ALONE_ERROR],
        "wrong dtype": [
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but double is provided",
        ],
    },
    "grpc-js": {
        "unknown model": ["NOT_FOUND", LATEST],
        "unknown version": ["NOT_FOUND", SEVENTH],
        "unknown signature": [
            "FAILED_PRECONDITION",
            'Serving signature key "other" not found.',
        ],
        "missing input": ["INVALID_ARGUMENT", jobs.TEXT_ALONE_ERROR],
        "status of an unknown model": [
            "NOT_FOUND",
            "Could not find any versions of model nobody",
        ],
    },
}
# By REST the inputs of the signature are looked up, and no others looked at.
ERRORS["ovmsclient by REST"] = ERRORS["ovmsclient"] | {
    "unknown input": [
        "InvalidInputError",
        "Missing named input: x in 'inputs' object.",
    ]
}


@pytest.fixture(scope="module")
def direct(export):
    """direct(feeds): what the export itself answers, without a server."""
    with saved_model_session.loaded(export / "1") as call:
        yield lambda feeds, signature=SERVING_DEFAULT: {
            name: plain(array.tolist())
            for name, array in call(signature, feeds).items()
        }


def plain(value):
    """Lists with text in place of bytes, and floats that compare to six digits."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-6)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("client", ANSWERING)
def test_floats_are_halved_and_two_is_added(client, answers_of):
    assert answers_of(client)["floats"] == [2.5, 3.0, 4.5]


@pytest.mark.parametrize("client", ANSWERING)
def test_rows_of_bytes_get_the_answers_of_the_export_itself(client, answers_of, direct):
    # min-tfs-client can send text alone.
    rows = jobs.TEXTS_ALONE if client == "min-tfs-client" else jobs.ROWS
    answers = answers_of(client)["rows"]
    assert answers == direct(rows)
    assert answers["status"][1].startswith("image absent")


@pytest.mark.parametrize("client", ERRORS)
def test_a_wrong_request_is_the_clients_own_error_with_the_servers_text(
    client, answers_of
):
    assert answers_of(client)["errors"] == ERRORS[client]


@pytest.mark.parametrize("client", ["ovmsclient", "grpc-js"])
def test_the_metadata_have_the_signature_of_the_export(client, answers_of):
    metadata = answers_of(client)["metadata"]
    one_a_row = {"dtype": "DT_STRING", "shape": [-1]}
    assert metadata["inputs"] == dict.fromkeys(jobs.ROWS, one_a_row)
    assert metadata["outputs"]["probabilities"] == {
        "dtype": "DT_FLOAT",
        "shape": [-1, 2],
    }
    assert metadata["model_version"] == 1


@pytest.mark.parametrize("client", ["ovmsclient", "ovmsclient by REST", "grpc-js"])
def test_the_status_of_the_export_is_available(client, answers_of):
    assert answers_of(client)["status"] == {
        "1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    }


def test_the_metadata_by_rest_are_those_of_tensorflow_serving(answers_of):
    # ovmsclient hands on what is not in OpenVINO's own spelling.
    metadata = answers_of("ovmsclient by REST")["metadata"]
    assert metadata["model_spec"]["name"] == CLASSIFIER
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {SERVING_DEFAULT, CLASSIFY}
    assert signatures[SERVING_DEFAULT]["inputs"]["text"]["dtype"] == "DT_STRING"


def test_node_finds_the_server_healthy_and_hears_which_version_answered(answers_of):
    answers = answers_of("grpc-js")
    well = {"status": "SERVING"}
    assert answers["health"] == {"": well, "PredictionService": well}
    assert answers["spec"] == {
        "name": HALVES,
        "version": 1,
        "signature_name": SERVING_DEFAULT,
    }
    assert answers_of("min-tfs-client")["version"] == 1


def test_curl_gets_rows_for_rows_and_columns_for_columns(doors, direct):
    halves = f"http://{doors.rest}/v1/models/{HALVES}:predict"
    rows = clients.curl("--data", '{"instances": [1.0, 2.0, 5.0]}', halves)
    assert rows == (200, {"predictions": [2.5, 3.0, 4.5]})
    columns = clients.curl("--data", '{"inputs": [1.0, 2.0, 5.0]}', halves)
    assert columns == (200, {"outputs": [2.5, 3.0, 4.5]})
    encoded = [
        {name: {"b64": jobs.text_of(values[i])} for name, values in jobs.ROWS.items()}
        for i in range(2)
    ]
    url = f"http://{doors.rest}/v1/models/{CLASSIFIER}:predict"
    status, found = clients.curl("--data", json.dumps({"instances": encoded}), url)
    expected = direct(jobs.ROWS)
    assert (status, found["predictions"]) == (
        200,
        [{name: values[i] for name, values in expected.items()} for i in range(2)],
    )


def test_curl_gets_the_classes_of_an_example_with_their_scores(doors, direct):
    example = jobs.classify_request().input.example_list.examples[0]
    expected = direct({"inputs": [example.SerializeToString()]}, CLASSIFY)
    body = {
        "signature_name": CLASSIFY,
        "examples": [{"text": jobs.ROWS["text"][0].decode()}],
    }
    url = f"http://{doors.rest}/v1/models/{CLASSIFIER}:classify"
    pairs = zip(expected["classes"][0], expected["scores"][0], strict=True)
    assert clients.curl("--data", json.dumps(body), url) == (
        200,
        {"results": [[list(pair) for pair in pairs]]},
    )


def test_curl_gets_an_error_with_its_status(doors):
    url = f"http://{doors.rest}/v1/models/nobody:predict"
    assert clients.curl("--data", '{"instances": [1.0]}', url) == (
        404,
        {"error": LATEST},
    )
    url = f"http://{doors.rest}/v1/models/{HALVES}:predict"
    assert clients.curl("--data", "{}", url) == (
        400,
        {"error": "Missing 'inputs' or 'instances' key"},
    )
