"""TF-Hub sentence encoders: text -> one vector, by handle or by local folder."""

import warnings
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from mmkeras.errors import UserError


def load_hub_encoder(handle: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a sentence encoder: (B,) strings -> (B, D) float32.

    `hub.load`, not `hub.KerasLayer`, which is Keras 2. The weights stay as they are.

    Args:
        handle: A TF-Hub handle, fetched once into TF-Hub's own cache, or the folder
            of a SavedModel.

    Raises:
        UserError: It can be neither found nor fetched, or does not take text.
    """
    with warnings.catch_warnings():  # of its own import of pkg_resources
        warnings.simplefilter("ignore")
        import tensorflow_hub as hub

    if not handle.startswith(("http://", "https://", "gs://")):
        if not Path(handle).is_dir():
            raise UserError(
                f"text.hub_handle='{handle}' is no folder here; give the folder of a "
                "downloaded module, or a handle that begins with https://."
            )
    try:
        module = hub.load(handle)
    except Exception as error:  # each transport of TF-Hub has errors of its own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The text encoder could not be had from '{handle}' ({words}). Download it "
            "elsewhere and give its folder as --text.hub_handle, or use "
            "--text.encoder tfidf."
        ) from error
    if callable(module):
        return _Encoder(module, module)
    signature = getattr(module, "signatures", {}).get("serving_default")
    if signature is None:
        raise UserError(
            f"text.hub_handle='{handle}' has neither a call nor a signature "
            "serving_default; it must take a batch of strings."
        )
    return _Encoder(module, lambda texts: next(iter(signature(texts).values())))


class _Encoder(tf.Module):
    """Keeps the module, so that an export finds its variables."""

    def __init__(self, module, call):
        super().__init__(name="hub_encoder")
        self.module, self._call = module, call

    def __call__(self, texts):
        return tf.cast(self._call(texts), tf.float32)
