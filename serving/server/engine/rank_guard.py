"""Guard against input ranks that would crash oneDNN kernels."""

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from mmkeras.export.saved_model_session import Session
from serving.server.errors import invalid_argument

# Parts of the names of operations with oneDNN kernels. Some of these kernels end the
# process on an array of another rank than the graph was built for, where TensorFlow's
# own kernels return an error. Measured with float arrays of 0 to 32 dimensions
# (TensorFlow 2.16): Conv2D, Conv3D, DepthwiseConv2dNative and MaxPool3D crash at a
# wrong rank, x * sigmoid(x) at 13 and more.
_FRAGILE = re.compile(
    "Conv|MatMul|Pool|BatchNorm|Einsum|Softmax|LRN|Concat|BiasAdd|Sigmoid"
)
_FATAL = re.compile("Conv|Pool3D")
_MAX_RANK = 12  # DNNL_MAX_NDIMS


class RankGuard:
    """Allowed ranks of a graph's inputs."""

    def __init__(self, session: Session):
        """Records the inputs of signatures whose operations have oneDNN kernels."""
        self._shapes: dict[str, tf.TensorShape] = {}
        self._fatal: set[str] = set()
        if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
            return
        for name, signature in session.signatures.items():
            operations = session.operations[name]
            for info in signature.inputs.values():
                if any(map(_FRAGILE.search, operations)):
                    self._shapes[info.name] = tf.TensorShape(info.tensor_shape)
                if any(map(_FATAL.search, operations)):
                    self._fatal.add(info.name)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for an array of a dangerous rank."""
        for tensor, array in feeds.items():
            shape = self._shapes.get(tensor)
            if shape is None or array.dtype == object or shape.rank == array.ndim:
                continue  # arrays of strings are safe
            name = f"{tensor.partition(':')[0]} [{_sizes(array.shape)}]"
            if shape.rank is not None:  # the text of tf.ensure_shape
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


def _sizes(shape: Iterable[int | None]) -> str:
    return ",".join("?" if size is None else str(size) for size in shape)
