import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from serving.server.errors import ServingError
from serving.server.rest import responses


def predictions(by_row=True, **outputs):
    tensors = {name: tf.make_tensor_proto(value) for name, value in outputs.items()}
    return responses.format_predict(tensors, by_row)


@pytest.mark.parametrize(
    ("by_row", "outputs", "text"),
    [
        (True, {"y": [[1, 2], [3, 4]]}, '"predictions": [[1, 2], [3, 4]\n    ]'),
        (True, {"y": np.zeros([0, 3], np.float32)}, '"predictions": []'),
        (
            True,
            {"b": [1], "a": np.float32([[0.5]])},
            '"predictions": [\n        {\n            "a": [0.5],\n'
            '            "b": 1\n        }\n    ]',
        ),
        (
            False,
            {"y": np.float32([2.5, 3])},
            '"outputs": [\n        2.5,\n        3.0\n    ]',
        ),
        (False, {"y": True}, '"outputs": true'),
    ],
)
def test_predictions_have_tf_servings_layout(by_row, outputs, text):
    assert predictions(by_row, **outputs) == f"{{\n    {text}\n}}"


@pytest.mark.parametrize(
    ("by_row", "outputs", "values"),
    [
        (True, {"b": [1, 2], "a": [3, 4]}, [{"a": 3, "b": 1}, {"a": 4, "b": 2}]),
        (False, {"a": [[1, 2]], "b": ["x"]}, {"a": [[1, 2]], "b": ["x"]}),
        (True, {"y": np.zeros([2, 0])}, [[], []]),
        # Base64 for *_bytes, and where a string is not UTF-8.
        (True, {"y_bytes": [b"\xff", b"a"]}, [{"b64": "/w=="}, {"b64": "YQ=="}]),
        (False, {"y_bytes": b"a"}, {"b64": "YQ=="}),
        (True, {"y": [b"\xff", b"a"]}, [{"b64": "/w=="}, {"b64": "YQ=="}]),
        (True, {"y": ["é\n\x0b"]}, ["é\n\x0b"]),
    ],
)
def test_predictions_have_the_values_of_the_outputs(by_row, outputs, values):
    key = "predictions" if by_row else "outputs"
    assert json.loads(predictions(by_row, **outputs)) == {key: values}


@given(st.lists(st.binary(), min_size=1), st.sampled_from(["y", "y_bytes"]))
def test_any_bytes_can_be_read_back(values, name):
    items = json.loads(predictions(**{name: values}))["predictions"]
    assert values == [
        base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for v in items
    ]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint64, np.int8])
@pytest.mark.parametrize("by_row", [True, False])
def test_any_numbers_can_be_read_back_exactly(kind, by_row):
    bits = np.random.default_rng(0).bytes(np.dtype(kind).itemsize * 2 * 300)
    values = np.frombuffer(bits, kind).reshape(100, 2, 3)
    (result,) = json.loads(predictions(by_row, y=values)).values()
    is_float = kind in (np.float32, np.float64)
    assert np.array_equal(np.array(result, kind), values, equal_nan=is_float)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (
            {"a": [1, 2], "b": [1, 2, 3]},
            "b has inconsistent batch size: 3 expecting: 2",
        ),
        ({"y": 1}, "Tensor name: y has no shape information"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float16([1])}, "tensor type: half"),
    ],
)
def test_outputs_without_a_json_form_are_refused(outputs, text):
    with pytest.raises(ServingError, match=text):
        predictions(**outputs)


def test_results_have_classes_or_values():
    classes = ClassificationResult()
    classes.classifications.add().classes.add(label='a "b"', score=0.75)
    classes.classifications.add()
    values = RegressionResult(regressions=[{"value": 2.5}, {"value": 3}])
    for text, results in (
        (responses.format_classify(classes), '[[["a \\"b\\"", 0.75]], []\n    ]'),
        (responses.format_regress(values), "[2.5, 3.0]"),
    ):
        assert text == f'{{\n    "results": {results}\n}}'


def test_empty_results_are_refused():
    with pytest.raises(ServingError, match="empty ClassificationResults"):
        responses.format_classify(ClassificationResult())
    with pytest.raises(ServingError, match="empty RegressionResults"):
        responses.format_regress(RegressionResult())


def test_a_status_has_the_states_of_the_versions():
    response = GetModelStatusResponse()
    response.model_version_status.add(version=2, state=30).status.error_code = 0
    text = responses.format_status(response)
    status = {"error_code": "OK", "error_message": ""}
    (version,) = json.loads(text)["model_version_status"]
    assert version == {"version": "2", "state": "AVAILABLE", "status": status}
    assert text.startswith('{\n "model_version_status": [\n  {\n   "version": "2",\n')


def test_metadata_have_the_signatures():
    response = GetModelMetadataResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 3
    signatures = SignatureDefMap()
    signatures.signature_def["serving_default"].inputs["x"].dtype = 1
    response.metadata["signature_def"].Pack(signatures)
    text = responses.format_metadata(response)
    assert text.startswith('{\n"model_spec":{\n "name": "m",\n')
    content = json.loads(text)
    assert content["model_spec"] == {"name": "m", "signature_name": "", "version": "3"}
    signatures = content["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_an_error_is_an_object():
    assert responses.format_error('a "b"\n') == '{\n    "error": "a \\"b\\"\\n"\n}'
