"""TFX's client, in the environment of the pipeline's tests."""

import pytest

from tests.serving.conformance import jobs

pytestmark = pytest.mark.slow
pytest.importorskip("tfx", reason="tfx is not installed here")


def test_tfx_finds_the_model_loaded_and_its_requests_succeed(results_of):
    results = results_of("tfx")
    assert results["loaded"] == results["predicted"] == ["no error", "", ""]


def test_a_wrong_request_is_an_error_of_tfx_with_the_servers_text(results_of):
    assert results_of("tfx")["errors"] == {
        "missing input": [
            "ValidationFailed",
            "INVALID_ARGUMENT",
            jobs.TEXT_ALONE_ERROR,
        ],
        "never loaded": [
            "DeadlineExceeded",
            "",
            "Deadline exceeded while waiting the model to be loaded.",
        ],
    }
