"""The messages of TensorFlow Serving's gRPC, without the import of TensorFlow.

The stubs of tensorflow-serving-api import `tensorflow.core.*_pb2`, and with it all of
TensorFlow: seconds of start-up and 600 MB. What they declare is a protobuf descriptor,
a literal of bytes in each generated file. Here those literals are read, as data, out of
the installed files into a descriptor pool of our own. No module called `tensorflow` is
made or imported and protobuf's own pool is not touched, so whoever imports TensorFlow
before or after, in the same process, finds everything as it was.
"""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool

from mmkeras.environment.protobuf import class_of

# These import one another, and with that all that a client sends and receives.
_ROOTS = (
    "tensorflow_serving/apis/predict.proto",
    "tensorflow_serving/apis/classification.proto",
    "tensorflow_serving/apis/get_model_metadata.proto",
    "tensorflow_serving/apis/get_model_status.proto",
)
_OURS = "google/protobuf/"  # come with protobuf itself, and import nothing else
_DECLARES = "AddSerializedFile"
# TensorFlow's wheel keeps the files of these packages inside itself.
_INSIDE = {"tsl/": "tensorflow/tsl/", "xla/": "tensorflow/compiler/xla/"}


def message(name: str) -> type:
    """Returns the class of a message, as "tensorflow.serving.PredictRequest".

    Raises:
        KeyError: No such message.
    """
    pool = _pool()
    return _class(pool.FindMessageTypeByName(name))


@cache
def _class(descriptor: Descriptor) -> type:
    return class_of(descriptor)


@cache
def _pool() -> DescriptorPool:
    pool, added = DescriptorPool(), set()
    for root in _ROOTS:
        _add(pool, root, added)
    return pool


def _add(pool: DescriptorPool, name: str, added: set[str]) -> None:
    """Adds a .proto, after all that it imports."""
    if name in added:
        return
    added.add(name)
    declared = _declared(name)
    file = descriptor_pb2.FileDescriptorProto.FromString(declared)
    for imported in file.dependency:
        _add(pool, imported, added)
    pool.AddSerializedFile(declared)


def _declared(name: str) -> bytes:
    """Returns the serialized FileDescriptorProto of a .proto."""
    module = name.removesuffix(".proto") + "_pb2"
    if name.startswith(_OURS):
        return import_module(module.replace("/", ".")).DESCRIPTOR.serialized_pb
    for package, at in _INSIDE.items():
        if module.startswith(package):
            module = module.replace(package, at, 1)
    top, _, rest = module.partition("/")
    path = _folder(top) / f"{rest}.py"
    literals = list(_literals(ast.parse(path.read_bytes())))
    if len(literals) != 1:
        raise ImportError(f"{path} declares no messages in a way known here.")
    return literals[0]


@cache
def _folder(package: str) -> Path:
    """Finds an installed package without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            f"The package '{package}' is not installed, and gRPC needs its messages; "
            "install tensorflow-serving-api, or use the REST door (http://HOST:PORT)."
        )
    return Path(next(iter(found.submodule_search_locations)))


def _literals(tree: ast.Module) -> Iterator[bytes]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == _DECLARES:
                yield ast.literal_eval(node.args[0])
