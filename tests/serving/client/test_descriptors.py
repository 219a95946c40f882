"""The messages are TensorFlow Serving's, and TensorFlow is not imported for them."""

import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from serving.client import descriptors

STUBS = {
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "ClassificationRequest": classification_pb2.ClassificationRequest,
    "ClassificationResponse": classification_pb2.ClassificationResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}


def files_below(file, found):
    found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
    for other in file.dependencies:
        files_below(other, found)
    return found


@pytest.mark.parametrize("name", STUBS)
def test_a_message_is_declared_as_in_the_stubs_with_all_that_it_is_made_of(name):
    own = descriptors.message(f"tensorflow.serving.{name}")
    assert own is not STUBS[name]
    ours = files_below(own.DESCRIPTOR.file, {})
    assert ours == files_below(STUBS[name].DESCRIPTOR.file, {})
    assert len(ours) > 1


def test_an_unknown_message_is_a_key_error():
    with pytest.raises(KeyError):
        descriptors.message("tensorflow.serving.NoSuchRequest")


def fresh(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


HEAVY = "print(*sorted({'tensorflow', 'keras', 'grpc', 'httpx'} & set(sys.modules)))"


def test_an_open_client_has_not_imported_tensorflow():
    own = "import sys; from serving.client import Client"
    assert fresh(f"{own}; {HEAVY}") == []
    assert fresh(f"{own}; Client('localhost:1').close(); {HEAVY}") == ["grpc"]
    rest = f"{own}; Client('http://localhost:1').close(); {HEAVY}"
    assert fresh(rest) == ["httpx"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_tensorflow_in_the_same_process_is_none_the_worse(order):
    ours = """
from serving.client.descriptors import message
request = message("tensorflow.serving.PredictRequest")()
request.inputs["x"].dtype = 7
request.inputs["x"].string_val.append(b"hi")
"""
    theirs = """
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
"""
    both = theirs + ours if order == "before" else ours + theirs
    both += """
again = predict_pb2.PredictRequest.FromString(request.SerializeToString())
print(again.inputs["x"].string_val[0].decode(), float(tf.add(1.0, 2.0)))
"""
    assert fresh(both)[-2:] == ["hi", "3.0"]
