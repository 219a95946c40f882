"""Pretrained encoders of waves: SavedModels, and KerasHub's Whisper and Moonshine."""

import json

import keras
from keras import layers

from mmkeras.config import AudioConfig
from mmkeras.errors import UserError, one_line
from mmkeras.layers.saved_model import check_saved_model
from mmkeras.modalities.audio import waves as wave_layers
from mmkeras.modalities.kerashub import find_preset, keras_hub, load_preset

_SETTING, _TYPE = "audio.weights", "audio"
# Samples of the first frame that Moonshine's three convolutions give.
_MOONSHINE_SAMPLES = 127 + 64 * (6 + 3 * 2)


def saved_model(waves, config: AudioConfig):
    """Applies a SavedModel: (B, 1 + S) to (B, D), or (B, N, D) and mask (B, N)."""
    folder = config.weights
    if config.encoder == "hub":
        folder = _fetch_module(config)
    names = (config.signature, config.input_name, config.output_name)
    x = wave_layers.WaveSavedModel(folder, *names, name="saved_model")(waves)
    if len(x.shape) == 2:
        return x
    return x, wave_layers.WaveMask(x.shape[1], name="frames")(waves)


def kerashub(waves, config: AudioConfig):
    """Applies the encoder of a preset: (B, 1 + S) to (B, L, D) and mask (B, L).

    The input is padded to `clip_s` only, where KerasHub pads it to the 30 s of Whisper.

    Raises:
        UserError: The preset is of another kind or rate, or the clip is too long.

    Source: Radford et al., 2022, https://arxiv.org/abs/2212.04356 (Whisper); Jeffries
    et al., 2024, https://arxiv.org/abs/2410.15608 (Moonshine); KerasHub's backbones.
    """
    policy = keras.config.dtype_policy().name
    backbone = load_preset(_SETTING, config.weights, dtype=policy)
    _check_kind(config, type(backbone).__name__)
    converter = _load_converter(config)
    _check_rate(config, converter.sampling_rate)
    features = wave_layers.WaveFeatures(converter, name="features")(waves)
    encode = _KINDS[type(backbone).__name__]
    return encode(backbone, features, waves, config)


def _whisper(backbone, features, waves, config):
    frames, limit = features.shape[1], backbone.max_encoder_sequence_length
    if frames > limit:
        limit_s = config.clip_s * limit / frames
        raise UserError(
            f"audio.clip_s={config.clip_s:g} is longer than the positions of "
            f"{_SETTING}='{config.weights}', {limit_s:g} s; set it to that or less."
        )
    encoder = keras.Model(
        backbone.input["encoder_features"],
        backbone.output["encoder_sequence_output"],
        name="whisper",
    )
    tokens = encoder(features)
    return tokens, wave_layers.WaveMask(tokens.shape[1], name="frames")(waves)


def _moonshine(backbone, features, waves, config):
    if config.max_samples < _MOONSHINE_SAMPLES:
        least_s = _MOONSHINE_SAMPLES / config.rate_hz
        raise UserError(
            f"audio.clip_s={config.clip_s:g} is shorter than a frame of "
            f"{_SETTING}='{config.weights}'; set it to {least_s:g} or more."
        )
    inputs, outputs = backbone.input, backbone.output
    encoder = keras.Model(
        {n: inputs[n] for n in ("encoder_input_values", "encoder_padding_mask")},
        [outputs["encoder_sequence_output"], outputs["encoder_attention_mask"]],
        name="moonshine",
    )
    is_sample = wave_layers.WaveMask(
        config.max_samples, _MOONSHINE_SAMPLES, name="samples"
    )(waves)
    tokens, mask = encoder(
        {"encoder_input_values": features, "encoder_padding_mask": is_sample}
    )
    return tokens, layers.Reshape((tokens.shape[1],), name="frames")(mask)


_KINDS = {"WhisperBackbone": _whisper, "MoonshineBackbone": _moonshine}


def fetch(config: AudioConfig) -> None:
    """Checks the folder of an encoder, or fetches what its handle names, once.

    Raises:
        UserError: It cannot be used, or is neither in a cache nor can be fetched.
    """
    if config.encoder == "hub":
        _fetch_module(config)
    elif config.encoder == "saved_model":
        check_saved_model(_SETTING, config.weights)
    elif config.encoder == "kerashub":
        folder = find_preset(_SETTING, config.weights)
        _check_kind(config, _read(folder / "config.json").get("class_name", "model"))
        settings = _read(folder / "audio_converter.json").get("config", {})
        _check_rate(config, settings.get("sampling_rate", config.rate_hz))


def _fetch_module(config) -> str:
    from mmkeras.modalities import tf_hub  # imports TensorFlow

    return tf_hub.fetch(config.hub_handle, _TYPE)


def _read(path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = one_line(error, 200)
        raise UserError(
            f"{_SETTING}='{path.parent}' is no preset of KerasHub's Whisper or "
            f"Moonshine: {path.name} cannot be read ({reason})."
        ) from error


def _load_converter(config):
    folder = find_preset(_SETTING, config.weights)
    try:
        return keras_hub().layers.AudioConverter.from_preset(str(folder))
    except (ValueError, OSError) as error:
        raise UserError(
            f"{_SETTING}='{config.weights}' has no audio converter "
            f"({one_line(error, 200)}). Give a complete preset of Whisper or Moonshine."
        ) from error


def _check_kind(config, kind):
    if kind not in _KINDS:
        raise UserError(
            f"{_SETTING}='{config.weights}' is a {kind}; audio.encoder=kerashub needs "
            "a preset of Whisper or Moonshine."
        )


def _check_rate(config, rate_hz):
    if rate_hz != config.rate_hz:
        raise UserError(
            f"audio.rate_hz={config.rate_hz} is not the rate of {_SETTING}="
            f"'{config.weights}'; set it to {rate_hz}."
        )
