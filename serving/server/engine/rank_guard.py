"""Keeps arrays from a graph whose kernels would end the process over them."""

import os
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.errors import ServingError, invalid_argument

# Parts of the names of operations that oneDNN has kernels for. Given an array of
# another rank than the graph was built for, some of these end the process, where
# TensorFlow's own answer with an error. Found by feeding each operation float arrays of
# 0 to 32 dimensions (TensorFlow 2.16): Conv2D, Conv3D, DepthwiseConv2dNative and
# MaxPool3D do so at a wrong rank, x * sigmoid(x) at 13 and more.
_FRAGILE = ("Conv", "MatMul", "Pool", "BatchNorm", "Einsum", "Softmax", "LRN", "Concat")
_FRAGILE += ("BiasAdd", "Sigmoid")
_FATAL = ("Conv", "Pool3D")
_MOST_RANK = 12  # DNNL_MAX_NDIMS


class RankGuard:
    """What ranks the inputs of a graph may have."""

    def __init__(
        self,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        operations: Mapping[str, Iterable[str]],
    ):
        """Looks at what each signature runs through.

        Args:
            signatures: {name: signature}.
            operations: {name: types of operations that its outputs come from}.
        """
        self._shapes: dict[str, tf.TensorShape] = {}
        self._fatal: set[str] = set()
        if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
            return
        for name, signature in signatures.items():
            for info in signature.inputs.values():
                if _any_is(_FRAGILE, operations[name]):
                    self._shapes[info.name] = tf.TensorShape(info.tensor_shape)
                if _any_is(_FATAL, operations[name]):
                    self._fatal.add(info.name)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Refuses what could end the process; strings never do.

        Args:
            feeds: {tensor: array}.

        Raises:
            ServingError: INVALID_ARGUMENT, where the rank is known in the words of
                tf.ensure_shape.
        """
        for tensor, array in feeds.items():
            shape = self._shapes.get(tensor)
            if shape is None or array.dtype == object or shape.rank == array.ndim:
                continue
            if shape.rank is not None:
                raise _incompatible(tensor, array, shape)
            if tensor in self._fatal or array.ndim > _MOST_RANK:
                raise invalid_argument(
                    f"Tensor {_name(tensor)} [{_sizes(array.shape)}] has no rank in "
                    "its signature, and a wrong one could end the process. Export the "
                    "model with a rank, or serve it with TF_ENABLE_ONEDNN_OPTS=0."
                )


def _any_is(parts: Iterable[str], operations: Iterable[str]) -> bool:
    return any(part in operation for operation in operations for part in parts)


def _incompatible(tensor: str, array, shape: tf.TensorShape) -> ServingError:
    return invalid_argument(
        f"Shape of tensor {_name(tensor)} [{_sizes(array.shape)}] is not compatible "
        f"with expected shape [{_sizes(shape)}]."
    )


def _name(tensor: str) -> str:
    return tensor.partition(":")[0]


def _sizes(shape: Iterable[int | None]) -> str:
    return ",".join("?" if size is None else str(size) for size in shape)
