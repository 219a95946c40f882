"""TF-Hub modules that embed texts or waves, loaded by handle or from a local folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from mmkeras.environment.download import limited_wait
from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError, one_line
from mmkeras.path_patterns import check_no_pattern

TEXT, AUDIO = "text", "audio"
_ALTERNATIVES = {TEXT: "--text.encoder tfidf", AUDIO: "--audio.encoder log_mel_stats"}


def load_hub_encoder(handle: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a sentence encoder: (B,) strings -> (B, D) float32, its weights frozen.

    `handle` is a TF-Hub handle, fetched once into TF-Hub's own cache, or the folder of
    a SavedModel. (`hub.load`, since `hub.KerasLayer` is Keras 2.)

    Raises:
        UserError: The module cannot be found or fetched, or its input is not text.
    """
    module = _load(handle, TEXT)
    if callable(module):
        return _Encoder(module, module)
    signature = getattr(module, "signatures", {}).get("serving_default")
    if signature is None:
        raise UserError(
            f"text.hub_handle='{handle}' has neither a call nor a signature "
            "serving_default; give a module whose input is a batch of strings."
        )
    return _Encoder(module, lambda texts: next(iter(signature(texts).values())))


def hub_text_width(handle: str) -> int:
    """Returns the width of a sentence encoder's vectors; loads the module."""
    return load_hub_encoder(handle)(tf.constant([""])).shape[1]


def fetch(handle: str, modality: str) -> str:
    """Returns the folder of a module, fetched once into TF-Hub's own cache.

    Raises:
        UserError: The module cannot be found or fetched, or the path of the cache
            would be read as a pattern.
    """
    hub = import_extra("tensorflow_hub", f"{modality}.encoder=hub")
    is_remote = handle.startswith(("http://", "https://", "gs://"))
    if not is_remote and not Path(handle).is_dir():
        raise UserError(
            f"{modality}.hub_handle='{handle}' is no folder here; give the folder "
            "of a downloaded module, or a handle that begins with https://."
        )
    with _named_errors(handle, modality), limited_wait():
        folder = hub.resolve(handle)
    if is_remote:
        # TensorFlow's loader would take the path for a pattern. (A temporary link to
        # it would be gone when an export copies the module's files.)
        name = next(filter(os.environ.get, ("TFHUB_CACHE_DIR", "TMPDIR")), "TMPDIR")
        check_no_pattern(name, folder)
    return folder


@contextmanager
def _named_errors(handle: str, modality: str) -> Iterator[None]:
    """Turns errors into a UserError with the setting and an alternative."""
    try:
        yield
    except Exception as error:  # each transport of TF-Hub has errors of its own
        raise UserError(
            f"The {modality} encoder could not be loaded from '{handle}' "
            f"({one_line(error, 200)}). Download it elsewhere and give its folder as "
            f"--{modality}.hub_handle, or use {_ALTERNATIVES[modality]}."
        ) from error


def _load(handle: str, modality: str):
    """Loads a module; errors name the setting and the alternative."""
    folder = fetch(handle, modality)
    hub = import_extra("tensorflow_hub", f"{modality}.encoder=hub")
    with _named_errors(handle, modality):
        return hub.load(folder)


class _Encoder(tf.Module):
    """A module and its call; tracked, so that an export contains its variables."""

    def __init__(self, module, call):
        super().__init__(name="hub_encoder")
        self.module, self._call = module, call

    def __call__(self, data):
        return tf.cast(self._call(data), tf.float32)
