"""Models of the presets at minimal sizes, with a state that fits them."""

from dataclasses import replace

import keras
import numpy as np

from mmkeras.config import Config
from mmkeras.config.presets import CAPTIONS, PRESETS, PRETRAINED
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import build_model
from tests.fitted_state import fitted_state

# Those of classes that need no weights of a hub.
FROM_SCRATCH = [name for name in PRESETS if name not in (*PRETRAINED, CAPTIONS)]


def preset_config(name: str) -> Config:
    """Returns a preset without pretrained weights."""
    config = PRESETS[name]()
    return replace(config, image=replace(config.image, weights="none"))


def tiny_preset(name: str) -> Config:
    """Returns a preset with its own architecture and minimal sizes."""
    config = preset_config(name)
    text, audio = config.text, config.audio
    audio_sizes = {"rate_hz": 8000, "clip_s": 0.25, "high_hz": 3800.0}
    audio_sizes |= {"bands": 8, "mfccs": 4}
    return replace(
        config,
        image=replace(config.image, size_px=32, width=2, units=8, layers=1, heads=2),
        text=replace(text, max_tokens=8, units=min(text.units, 8), layers=1, heads=2),
        audio=replace(audio, units=min(audio.units, 4), **audio_sizes),
        fusion=replace(config.fusion, units=8, width=8, heads=2),
    )


def preset_state(config: Config, tokens: int = 512) -> PreprocessingState:
    """Returns a state of three modalities, four classes and `tokens` words."""
    vocabulary = ["the", "cow", *(f"w{i}" for i in range(tokens - 2))]
    state = fitted_state(config, classes=("a", "b", "c", "d"), class_rows=(1, 1, 1, 1))
    width = config.text.max_tokens if config.text.is_sequence else tokens
    text = {"width": width, "vocabulary": vocabulary, "idf": [1.0] * tokens}
    audio = {"width": state.columns["audio"]["width"]}  # not standardized
    columns = state.columns | {"text": text, "audio": audio}
    return replace(state, columns=columns)


def model_inputs(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns eight random rows; some lack one modality, and one lacks all."""
    rng, inputs = np.random.default_rng(0), {}
    for name, x in model.input.items():
        shape = (8, *(size or 4 for size in x.shape[1:]))  # 4 tokens of a text
        if x.dtype == "int32":
            inputs[name] = rng.integers(1, 20, shape).astype("int32")
            inputs[name][::2, shape[1] // 2 :] = 0
        elif x.dtype == "uint8":
            inputs[name] = rng.integers(0, 256, shape).astype("uint8")
        else:
            inputs[name] = rng.normal(size=shape).astype("float32")
    branches = model.input["present"].shape[1]
    present = np.ones((8, branches), "float32")
    present[1 : 1 + branches] -= np.eye(branches)
    present[5] = 0
    return {**inputs, "present": present}


def new_model(config: Config, state: PreprocessingState) -> TrainedModel:
    return TrainedModel(
        preprocessor=Preprocessor(config, state), model=build_model(config, state)
    )


def untrained_model(config: Config, tokens: int = 20) -> TrainedModel:
    return new_model(config, preset_state(config, tokens))
