import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from serving.server.errors import ServingError
from serving.server.rest.responses import (
    classify_answer,
    error_answer,
    metadata_answer,
    predict_answer,
    regress_answer,
    status_answer,
)
from tests.serving.server.tiny_data_plane import signature


def answer(by_row=True, **outputs):
    tensors = {name: tf.make_tensor_proto(value) for name, value in outputs.items()}
    return predict_answer(tensors, by_row)


def message_of(by_row=True, **outputs):
    with pytest.raises(ServingError) as error:
        answer(by_row, **outputs)
    return error.value.message


def test_a_lone_output_has_no_name_and_its_rows_stand_on_one_line():
    assert answer(y=np.float32([2.5, 3])) == '{\n    "predictions": [2.5, 3.0\n    ]\n}'
    assert (
        answer(y=[[1, 2], [3, 4]]) == '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'
    )


def test_outputs_have_names_and_a_row_is_an_object():
    assert answer(b=[1, 2], a=np.float32([[0.5], [1.5]])) == (
        "{\n"
        '    "predictions": [\n'
        "        {\n"
        '            "a": [0.5],\n'
        '            "b": 1\n'
        "        },\n"
        "        {\n"
        '            "a": [1.5],\n'
        '            "b": 2\n'
        "        }\n"
        "    ]\n"
        "}"
    )


def test_columns_have_a_line_a_value():
    assert answer(False, y=np.float32([2.5, 3])) == (
        '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'
    )
    assert answer(False, y=True) == '{\n    "outputs": true\n}'
    assert json.loads(answer(False, a=[[1, 2]], b=["x"])) == {
        "outputs": {"a": [[1, 2]], "b": ["x"]}
    }


def test_outputs_named_bytes_leave_as_base64():
    assert json.loads(answer(y_bytes=[b"\xff", b"a"])) == {
        "predictions": [{"b64": "/w=="}, {"b64": "YQ=="}]
    }
    assert json.loads(answer(False, y_bytes=b"a")) == {"outputs": {"b64": "YQ=="}}


def test_other_strings_leave_as_text_and_as_base64_only_where_one_is_no_utf_8():
    assert json.loads(answer(y=["é\n\x0b"])) == {"predictions": ["é\n\x0b"]}
    assert json.loads(answer(y=[b"\xff", b"a"])) == {
        "predictions": [{"b64": "/w=="}, {"b64": "YQ=="}]
    }


@given(st.lists(st.binary(), min_size=1), st.sampled_from(["y", "y_bytes"]))
def test_any_bytes_can_be_read_back(values, name):
    read = json.loads(answer(**{name: values}))["predictions"]
    plain = [
        base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for v in read
    ]
    assert plain == values


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint64, np.int8])
@pytest.mark.parametrize("by_row", [True, False])
def test_any_numbers_can_be_read_back_to_the_last_bit(kind, by_row):
    bits = np.random.default_rng(0).bytes(np.dtype(kind).itemsize * 2 * 300)
    values = np.frombuffer(bits, kind).reshape(100, 2, 3)
    (read,) = json.loads(answer(by_row, y=values)).values()
    assert np.array_equal(
        np.array(read, kind), values, equal_nan=kind in (np.float32, np.float64)
    )


def test_an_empty_batch_has_no_predictions():
    assert answer(y=np.zeros([0, 3], np.float32)) == '{\n    "predictions": []\n}'
    assert json.loads(answer(y=np.zeros([2, 0]))) == {"predictions": [[], []]}


def test_outputs_that_are_no_rows_are_an_error_in_the_words_of_tf_serving():
    assert message_of(a=[1, 2], b=[1, 2, 3]) == (
        "Tensor name: b has inconsistent batch size: 3 expecting: 2"
    )
    assert message_of(y=1) == "Tensor name: y has no shape information "
    assert message_of() == "Cannot convert empty tensor map to JSON"
    assert message_of(y=np.float16([1])) == (
        "Failed to write JSON value for tensor type: half"
    )


def test_classes_have_labels_and_scores():
    result = classification_pb2.ClassificationResult()
    classes = result.classifications.add().classes
    classes.add(label='a "b"', score=0.75)
    classes.add(label="c", score=1)
    result.classifications.add()
    assert classify_answer(result) == (
        '{\n    "results": [[["a \\"b\\"", 0.75], ["c", 1.0]], []\n    ]\n}'
    )


def test_regressions_are_numbers():
    result = regression_pb2.RegressionResult()
    result.regressions.add(value=2.5)
    result.regressions.add(value=3)
    assert regress_answer(result) == '{\n    "results": [2.5, 3.0]\n}'


def test_results_that_are_empty_are_an_error():
    with pytest.raises(ServingError, match="empty ClassificationResults"):
        classify_answer(classification_pb2.ClassificationResult())
    with pytest.raises(ServingError, match="empty RegressionResults"):
        regress_answer(regression_pb2.RegressionResult())


def test_a_status_has_the_states_of_the_versions():
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=2, state=30).status.error_code = 0
    assert status_answer(response) == (
        '{\n "model_version_status": [\n  {\n   "version": "2",\n'
        '   "state": "AVAILABLE",\n   "status": {\n    "error_code": "OK",\n'
        '    "error_message": ""\n   }\n  }\n ]\n}\n'
    )


def test_metadata_have_the_signatures():
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 3
    known = get_model_metadata_pb2.SignatureDefMap(
        signature_def={"serving_default": signature(x=1)}
    )
    response.metadata["signature_def"].Pack(known)
    text = metadata_answer(response)
    assert text.startswith('{\n"model_spec":{\n "name": "m",\n')
    read = json.loads(text)
    assert read["model_spec"] == {"name": "m", "signature_name": "", "version": "3"}
    signatures = read["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_an_error_is_an_object():
    assert error_answer('a "b"\n') == '{\n    "error": "a \\"b\\"\\n"\n}'
