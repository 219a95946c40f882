"""Messages equal those of the stubs, and TensorFlow is not imported for them."""

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

from serving.client.descriptors import message_class

STUBS = [
    predict_pb2.PredictRequest,
    predict_pb2.PredictResponse,
    classification_pb2.ClassificationRequest,
    classification_pb2.ClassificationResponse,
    get_model_metadata_pb2.GetModelMetadataRequest,
    get_model_metadata_pb2.SignatureDefMap,
    get_model_status_pb2.GetModelStatusRequest,
    get_model_status_pb2.GetModelStatusResponse,
]


def file_descriptors(file, files=None):
    """Returns {name: content} of a .proto file and of all that it imports."""
    files = {} if files is None else files
    files[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
    for dependency in file.dependencies:
        file_descriptors(dependency, files)
    return files


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.DESCRIPTOR.name)
def test_a_message_and_its_imports_equal_those_of_the_stubs(stub):
    message = message_class(stub.DESCRIPTOR.full_name)
    assert message is not stub
    files = file_descriptors(message.DESCRIPTOR.file)
    assert files == file_descriptors(stub.DESCRIPTOR.file)
    assert len(files) > 1


def test_an_unknown_message_is_a_key_error():
    with pytest.raises(KeyError):
        message_class("tensorflow.serving.NoSuchRequest")


def run_fresh(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("", []),
        ("Client('localhost:1').close()", ["grpc"]),
        ("Client('http://localhost:1').close()", ["httpx"]),
    ],
)
def test_an_open_client_has_not_imported_tensorflow(code, modules):
    heavy = "{'tensorflow', 'keras', 'grpc', 'httpx'}"
    code = f"import sys; from serving.client import Client; {code or 'pass'}"
    assert run_fresh(f"{code}; print(*sorted({heavy} & set(sys.modules)))") == modules


@pytest.mark.parametrize("tensorflow_first", [True, False])
def test_tensorflow_works_in_the_same_process(tensorflow_first):
    parts = [
        "from serving.client.descriptors import message_class as message",
        "import tensorflow; from tensorflow_serving.apis.predict_pb2 import *",
    ]
    name = "tensorflow.serving.PredictRequest"
    use = [
        f"content = message({name!r})(output_filter=['hi']).SerializeToString()",
        "print(PredictRequest.FromString(content).output_filter[0])",
        "print(float(tensorflow.add(1.0, 2.0)))",
    ]
    code = "\n".join((parts[::-1] if tensorflow_first else parts) + use)
    assert run_fresh(code)[-2:] == ["hi", "3.0"]
