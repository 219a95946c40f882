"""Guard against input ranks that would crash oneDNN kernels."""

import os
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.errors import invalid_argument

# Parts of the names of operations with oneDNN kernels. Some of these kernels end the
# process on an array of another rank than the graph was built for, where TensorFlow's
# own kernels return an error. Measured with float arrays of 0 to 32 dimensions
# (TensorFlow 2.16): Conv2D, Conv3D, DepthwiseConv2dNative and MaxPool3D crash at a
# wrong rank, x * sigmoid(x) at 13 and more.
_FRAGILE = (
    "Conv MatMul Pool BatchNorm Einsum Softmax LRN Concat BiasAdd Sigmoid".split()
)
_FATAL = ("Conv", "Pool3D")
_MAX_RANK = 12  # DNNL_MAX_NDIMS


class RankGuard:
    """Allowed ranks of a graph's inputs."""

    def __init__(
        self,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        operations: Mapping[str, Iterable[str]],
    ):
        """Records the shapes of the inputs that oneDNN kernels depend on.

        Args:
            signatures: {name: signature}.
            operations: {name: operation types that its outputs depend on}.
        """
        self._shapes: dict[str, tf.TensorShape] = {}
        self._fatal: set[str] = set()
        if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
            return
        for name, signature in signatures.items():
            for info in signature.inputs.values():
                if _contains_any(operations[name], _FRAGILE):
                    self._shapes[info.name] = tf.TensorShape(info.tensor_shape)
                if _contains_any(operations[name], _FATAL):
                    self._fatal.add(info.name)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for an array of a dangerous rank.

        Arrays of strings are safe. If the rank is known, the text is that of
        tf.ensure_shape.

        Args:
            feeds: {tensor: array}.
        """
        for tensor, array in feeds.items():
            shape = self._shapes.get(tensor)
            if shape is None or array.dtype == object or shape.rank == array.ndim:
                continue
            name = f"{tensor.partition(':')[0]} [{_sizes(array.shape)}]"
            if shape.rank is not None:
                raise invalid_argument(
                    f"Shape of tensor {name} is not compatible with expected shape "
                    f"[{_sizes(shape)}]."
                )
            if tensor in self._fatal or array.ndim > _MAX_RANK:
                raise invalid_argument(
                    f"Tensor {name} has no rank in its signature, and a wrong one "
                    "could end the process. Export the model with a rank, or serve it "
                    "with TF_ENABLE_ONEDNN_OPTS=0."
                )


def _contains_any(operations: Iterable[str], parts: Iterable[str]) -> bool:
    return any(part in operation for operation in operations for part in parts)


def _sizes(shape: Iterable[int | None]) -> str:
    return ",".join("?" if size is None else str(size) for size in shape)
