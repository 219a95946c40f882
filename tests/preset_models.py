"""Models of the presets at minimal sizes, with a state that fits them."""

from dataclasses import replace

from mmkeras.config import Config
from mmkeras.config.presets import PRESETS
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import MULTICLASS, PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor, with_widths
from mmkeras.models.model import build_model


def preset_config(name: str) -> Config:
    """Returns a preset without pretrained weights."""
    config = PRESETS[name]()
    return replace(config, image=replace(config.image, weights="none"))


def tiny_preset(name: str) -> Config:
    """Returns a preset with its own architecture and minimal sizes."""
    config = preset_config(name)
    text, audio = config.text, config.audio
    return replace(
        config,
        image=replace(config.image, size_px=32, width=2, units=8, layers=1, heads=2),
        text=replace(text, max_tokens=8, units=min(text.units, 8), layers=1, heads=2),
        audio=replace(
            audio,
            rate_hz=8000,
            clip_s=0.25,
            bands=8,
            high_hz=3800.0,
            mfccs=4,
            units=min(audio.units, 4),
        ),
        fusion=replace(config.fusion, units=8, width=8, heads=2),
    )


def preset_state(config: Config, tokens: int = 512) -> PreprocessingState:
    """Returns a state of three modalities, four classes and `tokens` words."""
    state = PreprocessingState(
        modalities=("text", "image", "audio"),
        task=MULTICLASS,
        classes=("a", "b", "c", "d"),
        class_rows=(1, 1, 1, 1),
        vocabulary=("the", "cow", *(f"w{i}" for i in range(tokens - 2))),
        idf=(1.0,) * tokens,
    )
    return with_widths(state, config)


def untrained_model(config: Config, tokens: int = 20) -> TrainedModel:
    """Returns a new model of these settings."""
    state = preset_state(config, tokens)
    return TrainedModel(
        preprocessor=Preprocessor(config, state), model=build_model(config, state)
    )
