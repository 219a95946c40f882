"""Messages equal those of tensorflow-serving-api, which they do not import."""

import os
import re
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from serving.client.descriptors import DESCRIPTORS_FILE, message_class

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
REWRITE = "REWRITE_GOLDEN"  # variable that rewrites the descriptors
FIELD_PARTS = ("number", "label", "type", "type_name")


def read_descriptors():
    text = DESCRIPTORS_FILE.read_text(encoding="utf-8")
    return text_format.Parse(text, FileDescriptorSet())


def write_descriptors(files):
    """Writes one line per field, below the comments that the file has now."""
    lines = DESCRIPTORS_FILE.read_text(encoding="utf-8").splitlines(keepends=True)
    comments = "".join(line for line in lines if line.startswith("#"))
    text = re.sub(
        r"\{([^{}]*)\}",
        lambda block: f"{{ {' '.join(block[1].split())} }}",
        text_format.MessageToString(files),
    )
    DESCRIPTORS_FILE.write_text(comments + text, encoding="utf-8")


def installed_descriptors():
    """Returns what the installed stubs declare by the names in the file."""
    files = read_descriptors()
    for file in files.file:
        for part in (*file.message_type, *file.enum_type):
            copy_declaration(part, installed_part(f"{file.package}.{part.name}"))
    return files


def installed_part(name):
    """Returns the declaration of a message or an enum in a proto3 file."""
    file = FileDescriptorProto()
    descriptor_pool.Default().FindFileContainingSymbol(name).CopyToProto(file)
    assert file.syntax == "proto3"
    return by_name(file.message_type, file.enum_type)[name.rpartition(".")[2]]


def copy_declaration(part, source):
    """Copies numbers and types of fields and values that `part` names."""
    if hasattr(part, "value"):
        for value in part.value:
            value.number = by_name(source.value)[value.name].number
        return
    if source.options.map_entry:
        part.options.map_entry = True
    for field in part.field:
        for name in FIELD_PARTS:
            if value := getattr(by_name(source.field)[field.name], name):
                setattr(field, name, value)
    nested = by_name(source.nested_type, source.enum_type)
    for inner in (*part.nested_type, *part.enum_type):
        copy_declaration(inner, nested[inner.name])


def by_name(*lists):
    return {part.name: part for parts in lists for part in parts}


def test_the_descriptors_equal_those_of_the_installed_stubs():
    installed = installed_descriptors()
    if os.environ.get(REWRITE):
        write_descriptors(installed)
    assert read_descriptors() == installed


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.DESCRIPTOR.name)
def test_a_message_is_not_that_of_the_stubs(stub):
    message = message_class(stub.DESCRIPTOR.full_name)
    assert message is not stub and message().SerializeToString() == b""


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


def test_grpc_needs_no_stubs_and_leaves_the_default_pool_unchanged():
    code = """
import sys
sys.modules |= {"tensorflow": None, "tensorflow_serving": None}
from google.protobuf.descriptor_pool import Default
from serving.client import grpc_codec
from serving.client.requests import *
spec = ModelSpec(model="m")
for call in (
    PredictCall(spec=spec, columns={"text": [b"a"]}),
    MetadataCall(spec=spec),
    ColumnsCall(spec=spec),
    ClassNamesCall(spec=spec, row={"text": b""}),
    VersionsCall(model="m"),
):
    print(bool(grpc_codec.encode(call, "t").content))
for name in ("tensorflow.TensorProto", "tensorflow.serving.ModelSpec"):
    try:
        Default().FindMessageTypeByName(name)
    except KeyError:
        print(name)
"""
    names = ["tensorflow.TensorProto", "tensorflow.serving.ModelSpec"]
    assert run_fresh(code) == ["True"] * 5 + names


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
