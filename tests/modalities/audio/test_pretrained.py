"""Tests of pretrained encoders, from a preset or a folder to a verified export."""

import json
import socket
from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import AudioConfig
from mmkeras.errors import UserError
from mmkeras.export.saved_model import export
from mmkeras.layers.sequence import find_padding
from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.audio.encoder import (
    build_audio_encoder,
    with_one_output,
)
from mmkeras.modalities.audio.pretrained import fetch
from mmkeras.models.model import backbones
from tests import audio_modules
from tests.fitted_state import fitted_state
from tests.preset_models import new_model

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Kind -> its folder and KerasHub's backbone."""
    folder = tmp_path_factory.mktemp("presets")
    # 6 s, so that a test of the full length is fast.
    whisper = audio_modules.save_whisper(
        folder / "whisper", max_encoder_sequence_length=600
    )
    moonshine = audio_modules.save_moonshine(folder / "moonshine")
    return {
        "whisper": (str(folder / "whisper"), whisper),
        "moonshine": (str(folder / "moonshine"), moonshine),
    }


@pytest.fixture(scope="module")
def loudness(tmp_path_factory):
    return audio_modules.save_loudness(tmp_path_factory.mktemp("loudness"))


def settings_of(folder, **values):
    return AudioConfig(encoder="kerashub", weights=folder, **values)


def build(config, tokens=False):
    return build_audio_encoder(config, (1 + config.max_samples,), tokens)


def waves(config, *samples):
    """Random waves with their numbers of samples."""
    result = np.zeros((len(samples), 1 + config.max_samples), "float32")
    for row, count in zip(result, samples, strict=True):
        row[0], row[1 : count + 1] = count, RNG.normal(size=count) * 0.1
    return result


def kerashub_output(backbone, x, converter):
    """KerasHub's own encoder output and mask, of its own features."""
    ids = {
        "decoder_token_ids": np.ones((len(x), 2), "int32"),
        "decoder_padding_mask": np.ones((len(x), 2), "int32"),
    }
    features = np.array(converter(x[:, 1:]))
    if "encoder_features" in backbone.input:
        return backbone({"encoder_features": features, **ids}), None
    is_sample = np.arange(x.shape[1] - 1) < x[:, :1]
    inputs = {"encoder_input_values": features, "encoder_padding_mask": is_sample}
    output = backbone({**inputs, **ids})
    return output, output["encoder_attention_mask"]


@pytest.mark.parametrize("kind", ["whisper", "moonshine"])
def test_frames_are_those_of_kerashub(kind, presets):
    import keras_hub

    folder, backbone = presets[kind]
    config = settings_of(folder, clip_s=6)
    x = waves(config, 96_000, 50_000)
    converter = keras_hub.layers.AudioConverter.from_preset(folder)
    converter.num_samples = 96_000  # Whisper's own is 30 s
    expected, expected_mask = kerashub_output(backbone, x, converter)

    tokens, mask = build(config, tokens=True)(x)

    expected = expected["encoder_sequence_output"]
    np.testing.assert_allclose(tokens, expected, atol=1e-4)
    if expected_mask is None:  # 50,000 samples of 320 per frame
        assert np.array(mask).sum(axis=1).tolist() == [300, 157]
    else:
        np.testing.assert_array_equal(mask, expected_mask)
    vectors = np.array(build(config)(x))
    valid = np.array(tokens[1])[np.array(mask[1])]
    np.testing.assert_allclose(vectors[1], valid.mean(axis=0), atol=1e-5)


# Convolutions, positions, two blocks, and the last normalisation.
WHISPER = (80 * 3 + 1) * 8 + (8 * 3 + 1) * 8 + 300 * 8 + 2 * 592 + 16
MOONSHINE = 127 * 8 + 16 + (8 * 7 + 1) * 16 + (16 * 3 + 1) * 8 + 1 + 2 * 824 + 8


@pytest.mark.parametrize(
    ("kind", "frames", "parameters"),
    [("whisper", 50, WHISPER), ("moonshine", 40, MOONSHINE)],
)
def test_a_short_clip_has_few_frames_and_no_decoder(kind, frames, parameters, presets):
    folder, backbone = presets[kind]
    encoder = build(settings_of(folder, clip_s=1), tokens=True)
    assert encoder.output_shape == [(None, frames, 8), (None, frames)]
    assert encoder.count_params() == parameters < backbone.count_params()


@pytest.mark.parametrize("kind", ["whisper", "moonshine"])
def test_rows_do_not_depend_on_each_other_or_on_padding(kind, presets):
    config = settings_of(presets[kind][0], clip_s=0.5)
    encoder, x = build(config), waves(config, 8000, 4000, 0)
    vectors = np.array(encoder(x))
    np.testing.assert_allclose(vectors[1:2], encoder(x[1:2]), atol=1e-5)
    assert np.isfinite(vectors).all() and not np.allclose(vectors[0], vectors[1])


@pytest.mark.parametrize("policy", ["mixed_float16", "float32"])
def test_the_policy_is_that_of_the_run(policy, presets):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        config = settings_of(presets["whisper"][0], clip_s=0.5)
        output = build(config)(waves(config, 8000))
    finally:
        keras.config.set_dtype_policy(before)
    assert output.dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("kind", ["whisper", "moonshine", "saved_model"])
def test_a_backbone_has_one_output_for_the_cache(kind, tokens, presets, loudness):
    config = AudioConfig(encoder="saved_model", weights=loudness, clip_s=0.5)
    config = replace(config, signature="batch", output_name="frames")
    if kind != "saved_model":
        folder = presets[kind][0]
        config = replace(config, encoder="kerashub", weights=folder)
    encoder, x = build(config, tokens), waves(config, 8000, 4000)
    output = with_one_output(encoder)(x)
    if not tokens:
        np.testing.assert_array_equal(output, encoder(x))
        return
    expected, mask = (np.array(values) for values in encoder(x))
    np.testing.assert_array_equal(find_padding(output), mask)
    np.testing.assert_allclose(np.array(output)[mask], expected[mask])


CHANGES = {
    "whisper": {},
    "moonshine": {},
    "call": {},
    "batch": {"signature": "batch", "output_name": "frames"},
    "hub": {"encoder": "hub"},
}


@pytest.mark.parametrize(
    ("kind", "fusion"),
    [
        ("whisper", "concat"),
        ("moonshine", "mean_tokens"),
        ("call", "concat"),
        ("batch", "mean_tokens"),
        ("hub", "mean_tokens"),  # a vector is one token
    ],
)
def test_a_model_is_saved_and_exported_without_its_folder(
    kind, fusion, presets, loudness, tiny, row, tmp_path
):
    if kind in presets:
        values = {"encoder": "kerashub", "weights": presets[kind][0]}
    else:
        values = {"encoder": "saved_model", "weights": loudness, "hub_handle": loudness}
    values |= {"rate_hz": 16_000, "clip_s": 0.25, **CHANGES[kind]}
    fusion = replace(tiny.fusion, kind=fusion, width=8, heads=2)
    config = replace(tiny, audio=replace(tiny.audio, **values), fusion=fusion)
    state = fitted_state(config)
    assert state.columns["audio"] == {}
    trained = new_model(config, state)
    assert not backbones(trained.model)["audio"].trainable_weights
    trained.model.save(tmp_path / "model.keras")

    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)

    trained = replace(trained, model=loaded)
    assert export(trained, [row], tmp_path / "export").name == "1"


def test_an_encoder_is_trained_if_it_is_not_frozen(presets, tiny):
    values = {"encoder": "kerashub", "weights": presets["whisper"][0], "frozen": "no"}
    values |= {"rate_hz": 16_000, "clip_s": 0.25}
    config = replace(tiny, audio=replace(tiny.audio, **values))
    encoder = backbones(new_model(config, fitted_state(config)).model)["audio"]
    assert len(encoder.trainable_weights) > 30


def test_several_sounds_of_a_row_are_encoded_by_themselves(presets):
    config = settings_of(presets["whisper"][0], clip_s=0.25)
    column = Audio("audio", config)
    column.items, column.key = 2, "audio"
    both, x = column.build_backbone(tokens=True), waves(config, 4000, 1000)
    column.items = 1
    one = np.array(column.build_backbone(tokens=True)(x))
    items = np.concatenate([np.ones((2, 1)), x], axis=1)[None].astype("float32")
    mean = np.array(both(items))[0]
    np.testing.assert_allclose(mean[-1], one[0, -1], rtol=1e-5)  # only the first has it
    np.testing.assert_allclose(mean[0], one[:, 0].mean(axis=0), rtol=1e-5)


def test_a_preset_that_does_not_fit_is_refused_before_it_is_loaded(presets, tmp_path):
    folder = presets["whisper"][0]
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"class_name": "BertBackbone"}))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    for config, reason in {
        settings_of(folder, rate_hz=22_050): "rate_hz=22050 .*; set it to 16000",
        settings_of(str(other)): "is a BertBackbone; .* Whisper or Moonshine",
        settings_of(str(damaged)): "config.json cannot be read",
        settings_of(str(tmp_path)): "folder without config.json",
        settings_of("whisper_tinny_en"): "Did you mean 'whisper_tiny_en'",
        AudioConfig(encoder="saved_model", weights=folder): "no folder of a SavedModel",
        AudioConfig(encoder="hub", hub_handle="nowhere"): "'nowhere' is no folder here",
    }.items():
        with pytest.raises(UserError, match=rf"\A.*{reason}.*\Z"):
            fetch(config)
    fetch(settings_of(folder))


def test_a_clip_that_does_not_fit_is_refused(presets):
    with pytest.raises(UserError, match="audio.clip_s=7 is longer.*6 s"):
        build(settings_of(presets["whisper"][0], clip_s=7))
    with pytest.raises(UserError, match="audio.clip_s=0.05 is shorter.*0.0559"):
        build(settings_of(presets["moonshine"][0], clip_s=0.05))


def test_a_preset_without_an_audio_converter_is_refused(presets, tmp_path):
    presets["whisper"][1].save_to_preset(str(tmp_path))
    with pytest.raises(UserError, match="audio_converter.json cannot be read"):
        fetch(settings_of(str(tmp_path)))


def test_offline_is_known_in_one_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError("[Errno 101] Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(UserError, match=r"\A.*hf://a/b.*--audio.weights DIR.*\Z"):
        fetch(settings_of("hf://a/b"))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"encoder": "kerashub"}, "kerashub needs audio.weights: a folder"),
        ({"encoder": "saved_model"}, "saved_model needs audio.weights: the folder"),
        ({"encoder": "hub"}, "hub needs audio.hub_handle"),
        ({"encoder": "cnn", "frozen": "yes"}, "frozen=yes .*auto or no"),
        (
            {"encoder": "saved_model", "weights": "a", "frozen": "no"},
            "frozen=no .*auto or yes with audio.encoder=saved_model",
        ),
        (
            {"encoder": "kerashub", "weights": "a", "pooling": "attention"},
            "audio.pooling=attention .*mean or max",
        ),
    ],
)
def test_settings_that_cannot_be_combined_are_refused(values, reason):
    with pytest.raises(UserError, match=reason):
        AudioConfig(**values)
