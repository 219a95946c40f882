"""TF-Hub modules: text or a wave -> one vector, by handle or by local folder."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from mmkeras.environment.extras import import_extra
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
    module = _load(handle, "text", "--text.encoder tfidf")
    if callable(module):
        return _Encoder(module, module)
    signature = getattr(module, "signatures", {}).get("serving_default")
    if signature is None:
        raise UserError(
            f"text.hub_handle='{handle}' has neither a call nor a signature "
            "serving_default; it must take a batch of strings."
        )
    return _Encoder(module, lambda texts: next(iter(signature(texts).values())))


def load_hub_audio_encoder(handle: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a module like YAMNet: one wave (S,) float32 in [-1, 1] -> (D,) float32.

    The mean over time of its embeddings (N, D): of what it gives alone, or beside its
    scores as the second of a tuple, or under "embeddings" or "embedding".

    Args:
        handle: As above.

    Raises:
        UserError: It can be neither found nor fetched, or does not take a wave.

    Source: YAMNet's module, https://tfhub.dev/google/yamnet/1 (scores, embeddings,
    log-mel spectrogram of one wave at 16 kHz).
    """
    module = _load(handle, "audio", "--audio.encoder log_mel_stats")
    if not callable(module):
        raise UserError(
            f"audio.hub_handle='{handle}' cannot be called; it must take one wave, as "
            "YAMNet does."
        )

    def call(wave):
        try:
            embeddings = _embeddings(module(wave))
        except (ValueError, TypeError) as error:
            words = " ".join(str(error).split())[:200]
            raise UserError(
                f"audio.hub_handle='{handle}' does not take one wave of floats "
                f"({words})."
            ) from error
        if embeddings.shape.rank != 2 or embeddings.shape[1] is None:
            raise UserError(
                f"audio.hub_handle='{handle}' gives embeddings of shape "
                f"{embeddings.shape}; they must be (N, D) with a fixed D."
            )
        return tf.reduce_mean(embeddings, axis=0)

    return _Encoder(module, call)


def _embeddings(answer):
    if isinstance(answer, dict):
        return answer.get("embeddings", answer.get("embedding"))
    if isinstance(answer, list | tuple):
        return answer[1] if len(answer) > 1 else answer[0]
    return answer


def _load(handle: str, modality: str, instead: str):
    """Loads a module quietly; its one-line errors name the setting and the way out."""
    hub = import_extra("tensorflow_hub", f"{modality}.encoder=hub")
    if not handle.startswith(("http://", "https://", "gs://")):
        if not Path(handle).is_dir():
            raise UserError(
                f"{modality}.hub_handle='{handle}' is no folder here; give the folder "
                "of a downloaded module, or a handle that begins with https://."
            )
    try:
        return hub.load(handle)
    except Exception as error:  # each transport of TF-Hub has errors of its own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The {modality} encoder could not be had from '{handle}' ({words}). "
            f"Download it elsewhere and give its folder as --{modality}.hub_handle, or "
            f"use {instead}."
        ) from error


class _Encoder(tf.Module):
    """Keeps the module, so that an export finds its variables."""

    def __init__(self, module, call):
        super().__init__(name="hub_encoder")
        self.module, self._call = module, call

    def __call__(self, data):
        return tf.cast(self._call(data), tf.float32)
