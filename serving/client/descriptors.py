"""Message classes of TensorFlow Serving's gRPC API, without importing TensorFlow.

The stubs of tensorflow-serving-api import all of TensorFlow: seconds of start-up and
600 MB. But each generated *_pb2.py has its descriptor as one literal of bytes, in a
call of `AddSerializedFile`. `ast` reads these literals from the installed files into a
separate pool; no module is executed and protobuf's default pool stays unchanged, so
the same process can import TensorFlow before or after.
"""

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from mmkeras.environment.protobuf import class_of

# With their imports they declare all messages that the client uses.
_ROOTS = (
    "tensorflow_serving/apis/predict.proto",
    "tensorflow_serving/apis/classification.proto",
    "tensorflow_serving/apis/get_model_metadata.proto",
    "tensorflow_serving/apis/get_model_status.proto",
)
_PROTOBUF = "google/protobuf/"  # installed with protobuf, can be imported
# Packages that TensorFlow's wheel has in another folder.
_MOVED = {"tsl/": "tensorflow/tsl/", "xla/": "tensorflow/compiler/xla/"}


@cache
def message_class(name: str) -> type:
    """Returns the class of a message such as "tensorflow.serving.PredictRequest".

    Raises:
        KeyError: There is no such message.
        ImportError: A package is not installed, or has files of an unknown form.
    """
    return class_of(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> DescriptorPool:
    pool, names = DescriptorPool(), set()

    def add(name: str) -> None:  # imports first
        if name not in names:
            names.add(name)
            content = _serialized(name)
            for dependency in FileDescriptorProto.FromString(content).dependency:
                add(dependency)
            pool.AddSerializedFile(content)

    for root in _ROOTS:
        add(root)
    return pool


def _serialized(name: str) -> bytes:
    """Returns the serialized FileDescriptorProto of a .proto file."""
    module = name.removesuffix(".proto") + "_pb2"
    if name.startswith(_PROTOBUF):
        return import_module(module.replace("/", ".")).DESCRIPTOR.serialized_pb
    for package, folder in _MOVED.items():
        if module.startswith(package):
            module = module.replace(package, folder, 1)
    top, _, rest = module.partition("/")
    path = _package_folder(top) / f"{rest}.py"
    literals = [
        ast.literal_eval(node.args[0])
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "AddSerializedFile"
    ]
    if len(literals) != 1:
        raise ImportError(f"{path} has {len(literals)} descriptors instead of one.")
    return literals[0]


@cache
def _package_folder(package: str) -> Path:
    """Returns the folder of an installed package without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"The package '{package}' is not installed, and gRPC needs its messages; "
            "install tensorflow-serving-api, or use REST (http://HOST:PORT)."
        )
    return Path(next(iter(spec.submodule_search_locations)))
