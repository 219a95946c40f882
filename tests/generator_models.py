"""Untrained generators of texts with the real architecture at minimal sizes."""

from dataclasses import replace

import keras

from mmkeras.config import GenerateConfig
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import END, GENERATE, TextStatistics
from mmkeras.models.generator import get_decoder
from tests.preset_models import new_model, preset_state, tiny_preset

WORDS = ("a", "red", "green", "cow", ",")


def untrained_generator(vocabulary=WORDS, **settings) -> TrainedModel:
    """Returns a generator of texts from text, image and audio.

    `settings` are those of `generate`. Texts have as many tokens as they can, and their
    tokens differ.
    """
    config = tiny_preset("bert-vit")
    sizes = {"width": 8, "layers": 1, "heads": 2, "max_tokens": 5}
    generate = GenerateConfig(**{**sizes, **settings})
    fusion = replace(config.fusion, kind="concat")
    config = replace(config, task=GENERATE, generate=generate, fusion=fusion)
    texts = TextStatistics(vocabulary=vocabulary, longest=5, most_frequent="a cow")
    state = preset_state(config, tokens=20)
    width = state.columns["audio"]["width"]
    scale = {"width": width, "mean": [-4.0] * width, "deviation": [2.0] * width}
    state = replace(
        state,
        task=GENERATE,
        classes=(),
        class_rows=(),
        columns=state.columns | {"audio": scale},
        texts=texts,
    )
    keras.utils.set_random_seed(0)
    generator = new_model(config, state)
    embedding = get_decoder(generator.model).get_layer("token_embedding")
    embedding.embedding.assign(3 * embedding.embedding)
    bias = embedding.bias.numpy()
    bias[END] = -20
    embedding.bias.assign(bias)
    return generator
