"""Job of the third-party clients: two models, some numbers, two rows."""

from base64 import b64encode

import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from mmkeras.schema import CLASSIFY
from tests import table_factory
from tests.serving.server_process import ServerProcess

# Service -> method -> module of its messages. The modules of the services in
# tensorflow-serving-api 2.19 do not import under protobuf 6.
SERVICES = {
    "PredictionService": {
        "Predict": predict_pb2,
        "GetModelMetadata": get_model_metadata_pb2,
    },
    "ModelService": {"GetModelStatus": get_model_status_pb2},
}
HALVES, CLASSIFIER = "halves", "classifier"
FLOATS = [1.0, 2.0, 5.0]
# The second row has no image.
ROWS = {
    "text": [b"warm fire 1", b"fresh grass 2"],
    "image": [table_factory.image(), b""],
    "audio": [table_factory.tone(440), table_factory.tone(880)],
}
TEXT_ALONE_ERROR = (
    "input size does not match signature: 1!=3 len({text}) != "
    "len({audio,image,text}). Sent extra: {}. Missing but required: {audio,image}."
)


def job(server: ServerProcess) -> dict:
    """Returns the standard input of a client, for JSON; bytes are in base64."""
    return {
        "grpc": server.grpc,
        "rest": server.rest,
        "halves": HALVES,
        "classifier": CLASSIFIER,
        "floats": FLOATS,
        "rows": {name: [text_of(value) for value in ROWS[name]] for name in ROWS},
        "descriptors": text_of(descriptors()),
        "predict": text_of(predict_request().SerializeToString()),
        "classify": text_of(classify_request().SerializeToString()),
    }


def text_of(content: bytes) -> str:
    """Returns bytes in base64."""
    return b64encode(content).decode()


def predict_request() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = CLASSIFIER
    for name, values in ROWS.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def classify_request() -> classification_pb2.ClassificationRequest:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = CLASSIFIER
    request.model_spec.signature_name = CLASSIFY
    example = request.input.example_list.examples.add()
    example.features.feature["text"].bytes_list.value.append(ROWS["text"][0])
    return request


def descriptors() -> bytes:
    """Returns the services and their messages, for clients without stubs.

    The package of TensorFlow Serving has no .proto files.
    """
    files = descriptor_pb2.FileDescriptorSet()
    names: set[str] = set()

    def add(file) -> None:
        if file.name not in names:
            names.add(file.name)
            for dependency in file.dependencies:
                add(dependency)
            file.CopyToProto(files.file.add())

    for name, modules in SERVICES.items():
        service = descriptor_pb2.FileDescriptorProto(
            name=f"tensorflow_serving/apis/{name}.proto",
            package="tensorflow.serving",
            syntax="proto3",
            dependency=[module.DESCRIPTOR.name for module in modules.values()],
            service=[{"name": name}],
        )
        for method, module in modules.items():
            add(module.DESCRIPTOR)
            service.service[0].method.add(
                name=method,
                input_type=f".tensorflow.serving.{method}Request",
                output_type=f".tensorflow.serving.{method}Response",
            )
        files.file.append(service)
    return files.SerializeToString()
