"""Part of a generator after its head: the decoder, and the encoder of aligned texts."""

import keras

from mmkeras.config import Config
from mmkeras.models.decoder import (
    SINGLE_PASS,
    TOKENS,
    build_decoder,
    build_inputs,
)
from mmkeras.models.label_encoder import build_label_encoder
from mmkeras.schema import embedding_name

GENERATOR, _DECODER, _LABEL_ENCODER = "generator", "text_decoder", "label_encoder"


def build_generator(
    config: Config, *, vocab_size: int, is_aligned: bool
) -> keras.Model:
    """Builds the decoder, and with `is_aligned` the encoder of its texts.

    Inputs and outputs are those of `build_decoder`; with `is_aligned` there is also
    "label_embedding" (B, loss.width) float32, named by the label column.
    """
    fusion = config.fusion
    widths = {"memory_width": fusion.width, "embedding_width": fusion.units}
    inputs = build_inputs(**widths)
    decoder = build_decoder(config.generate, vocab_size=vocab_size, **widths)
    decoder.name = _DECODER
    outputs = dict(decoder(inputs))
    if is_aligned:
        encoder = build_label_encoder(config.loss, vocab_size)
        encoder.name = _LABEL_ENCODER
        name = embedding_name(config.table.label_names[0])
        outputs[name] = encoder({TOKENS: inputs[TOKENS]})
    return keras.Model(inputs, outputs, name=GENERATOR)


def get_decoder(model: keras.Model) -> keras.Model:
    """Returns the decoder of a complete model: see `build_decoder`.

    It has no part that only training uses.
    """
    decoder = model.get_layer(GENERATOR).get_layer(_DECODER)
    nested = [layer for layer in decoder.layers if layer.name == SINGLE_PASS]
    return nested[0] if nested else decoder


def get_label_encoder(model: keras.Model) -> keras.Model:
    """Returns the encoder of aligned texts: tokens (B, L) to unit vectors (B, W)."""
    return model.get_layer(GENERATOR).get_layer(_LABEL_ENCODER)
