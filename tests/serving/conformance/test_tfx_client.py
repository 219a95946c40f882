"""TFX's own client; it runs where TFX is installed, with the pipeline's tests."""

import pytest

from tests.serving.conformance import jobs

pytestmark = pytest.mark.e2e
pytest.importorskip("tfx", reason="tfx is not installed here")


def test_tfx_finds_the_model_loaded_and_its_requests_answered(answers_of):
    answers = answers_of("tfx")
    assert answers["loaded"] == answers["answered"] == ["no error", "", ""]


def test_a_wrong_request_is_tfxs_own_error_with_the_servers_text(answers_of):
    assert answers_of("tfx")["errors"] == {
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
