"""Message classes of TensorFlow Serving's gRPC API, without importing TensorFlow.

The stubs of tensorflow-serving-api import all of TensorFlow: seconds of start-up and
600 MB. `tensorflow_serving.textproto` declares the fields that the client uses; others
in a response are skipped. They are in a separate pool and protobuf's default pool stays
unchanged, so the same process can import TensorFlow before or after.

Source: names, numbers and types of the .proto files of TensorFlow Serving and of
TensorFlow, Apache License 2.0, https://github.com/tensorflow/serving and
https://github.com/tensorflow/tensorflow. Unlike there, all messages of a package are in
one file, and no fields are in a `oneof`.
"""

from functools import cache
from pathlib import Path

from google.protobuf import any_pb2, text_format, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from mmkeras.environment.protobuf import class_of

DESCRIPTORS_FILE = Path(__file__).with_name("tensorflow_serving.textproto")


@cache
def message_class(name: str) -> type:
    """Returns the class of a message such as "tensorflow.serving.PredictRequest".

    Raises:
        KeyError: There is no such message.
    """
    return class_of(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for imported in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(imported.DESCRIPTOR.serialized_pb)
    text = DESCRIPTORS_FILE.read_text(encoding="utf-8")
    for file in text_format.Parse(text, FileDescriptorSet()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
