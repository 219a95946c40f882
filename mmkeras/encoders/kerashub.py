"""KerasHub's BERT: sizes and weights by choice."""

import warnings
from pathlib import Path
from types import ModuleType

import keras

from mmkeras.config import TextConfig
from mmkeras.errors import UserError


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras_hub

    return keras_hub


def load_preset(kind: type[keras.Model], name: str, setting: str) -> keras.Model:
    """Fetches a backbone of KerasHub with its weights and sizes.

    Args:
        kind: As `keras_hub.models.BertBackbone`.
        name: Of the preset, or the folder of a downloaded one.
        setting: That named it, as "text.weights".

    Raises:
        UserError: It can be neither found nor fetched.
    """
    try:
        return kind.from_preset(name)
    except Exception as error:  # kagglehub, requests and KerasHub have their own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The weights {setting}='{name}' could not be had ({words}). Give the "
            "folder of a downloaded preset, a .weights.h5 file, or none to train from "
            "scratch."
        ) from None


def load_file(backbone: keras.Model, path: str, setting: str) -> None:
    """Loads a weights file into a backbone.

    Raises:
        UserError: It is none of such a backbone.
    """
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"{setting}='{path}' does not fit the sizes of the settings ({words})."
        ) from error


def bert(
    numbers: keras.KerasTensor,
    mask: keras.KerasTensor,
    config: TextConfig,
    vocabulary: int,
) -> keras.KerasTensor:
    """Word-piece numbers through BERT: (B, L) int32, (B, L) bool to (B, L, D).

    D is `config.units`, or what the preset has.

    Raises:
        UserError: The weights cannot be had, or know another number of pieces.

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; KerasHub's backbone.
    """
    kind = keras_hub().models.BertBackbone
    if config.weights == "none" or Path(config.weights).is_file():
        backbone = kind(
            vocabulary_size=vocabulary,
            num_layers=config.layers,
            num_heads=config.heads,
            hidden_dim=config.units,
            intermediate_dim=4 * config.units,
            max_sequence_length=config.max_tokens,
        )
        if config.weights != "none":
            load_file(backbone, config.weights, "text.weights")
    else:
        backbone = load_preset(kind, config.weights, "text.weights")
    if backbone.vocabulary_size != vocabulary:
        raise UserError(
            f"text.weights='{config.weights}' knows {backbone.vocabulary_size} word "
            f"pieces and the vocabulary has {vocabulary}: give the preset's own "
            "vocab.txt as text.vocab_file."
        )
    # The pooled output stays out, and with it a dense layer that nothing would train.
    body = keras.Model(backbone.input, backbone.output["sequence_output"], name="bert")
    return body(
        {
            "token_ids": numbers,
            "segment_ids": keras.ops.zeros_like(numbers),
            "padding_mask": keras.ops.cast(mask, "int32"),
        }
    )
