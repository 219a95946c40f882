"""Job of the third-party clients: two models, some numbers, two rows."""

from base64 import b64encode
from pathlib import Path

import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from mmkeras.schema import AUDIO, CLASSIFY, IMAGE, TEXT
from tests import table_factory
from tests.serving.server_process import ServerProcess

# Service -> modules of its messages, and method -> prefix of its messages. The modules
# of the services in tensorflow-serving-api 2.19 do not import under protobuf 6.
SERVICES = {
    "PredictionService": (
        [
            classification_pb2,
            get_model_metadata_pb2,
            inference_pb2,
            predict_pb2,
            regression_pb2,
        ],
        {
            "Classify": "Classification",
            "Regress": "Regression",
            "Predict": "Predict",
            "MultiInference": "MultiInference",
            "GetModelMetadata": "GetModelMetadata",
        },
    ),
    "ModelService": (
        [get_model_status_pb2, model_management_pb2],
        {
            "GetModelStatus": "GetModelStatus",
            "HandleReloadConfigRequest": "ReloadConfig",
        },
    ),
}
HALVES, CLASSIFIER = "half_plus_two", "classifier"
FLOATS = [1.0, 2.0, 5.0]
# The second row has no image.
ROWS = {
    TEXT: [b"warm fire 1", b"fresh grass 2"],
    IMAGE: [table_factory.image(), b""],
    AUDIO: [table_factory.tone(440), table_factory.tone(880)],
}
TEXT_ALONE_ERROR = (
    "input size does not match signature: 1!=3 len({text}) != "
    "len({audio,image,text}). Sent extra: {}. Missing but required: {audio,image}."
)
TEXTS_ALONE = {TEXT: ROWS[TEXT], IMAGE: [b"", b""], AUDIO: [b"", b""]}


class HalfPlusTwo(tf.Module):
    """Model of TensorFlow Serving's own examples."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + 2}


def save_half_plus_two(base: Path) -> Path:
    """Saves version 1; returns `base`."""
    model = HalfPlusTwo()
    tf.saved_model.save(model, str(base / "1"), signatures=model.__call__)
    return base


def job(server: ServerProcess) -> dict:
    """Returns the standard input of a client, for JSON; bytes are in base64."""
    return {
        "grpc": server.grpc,
        "rest": server.rest,
        "halves": HALVES,
        "classifier": CLASSIFIER,
        "floats": FLOATS,
        "rows": {name: [text_of(value) for value in ROWS[name]] for name in ROWS},
        "texts": [text.decode() for text in ROWS[TEXT]],
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
    example.features.feature[TEXT].bytes_list.value.append(ROWS[TEXT][0])
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

    for name, (modules, methods) in SERVICES.items():
        service = descriptor_pb2.FileDescriptorProto(
            name=f"tensorflow_serving/apis/{name}.proto",
            package="tensorflow.serving",
            syntax="proto3",
            dependency=[module.DESCRIPTOR.name for module in modules],
            service=[{"name": name}],
        )
        for module in modules:
            add(module.DESCRIPTOR)
        for method, messages in methods.items():
            service.service[0].method.add(
                name=method,
                input_type=f".tensorflow.serving.{messages}Request",
                output_type=f".tensorflow.serving.{messages}Response",
            )
        files.file.append(service)
    return files.SerializeToString()
