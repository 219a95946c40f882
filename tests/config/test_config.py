import dataclasses
import inspect

import pytest
import yaml

from mmkeras import config as configs
from mmkeras.cli import load_config
from mmkeras.config import Config, ImageConfig, TextConfig, to_dict
from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError

PARTS = {f.name: f.default_factory for f in dataclasses.fields(Config)}
SETTINGS = [
    (part, f.name)
    for part, make in PARTS.items()
    if dataclasses.is_dataclass(make)
    for f in dataclasses.fields(make)
]

# One impossible value of each check.
IMPOSSIBLE = [
    ("table", {"val_share": 0.0}, "table.val_share=0.0"),
    ("table", {"test_share": -0.1}, "table.test_share=-0.1"),
    ("table", {"val_share": 0.5, "test_share": 0.5}, "table.test_share=1 "),
    ("table", {"val_share": float("nan")}, "table.val_share=nan"),
    ("table", {"folds": 1, "fold": 1}, "0 (no cross-validation) or at least 2"),
    ("table", {"folds": 3}, "table.fold=0 is not possible: it must be from 1 to"),
    ("table", {"folds": 3, "fold": 4}, "table.fold=4"),
    ("table", {"fold": 1}, "table.fold=1 is not possible: it must be 0"),
    ("table", {"max_file_mb": 0}, "table.max_file_mb=0"),
    ("table", {"rows_per_shard": 0}, "table.rows_per_shard=0"),
    ("table", {"workers": -1}, "table.workers=-1"),
    ("table", {"modalities": "text,video"}, "table.modalities=text,video"),
    ("table", {"modalities": "text,text"}, "table.modalities=text,text"),
    ("table", {"modalities": " , "}, "any of text, image and audio"),
    ("image", {"size_px": 31}, "image.size_px=31"),
    ("image", {"width": 0}, "image.width=0"),
    ("image", {"max_megapixels": 179}, "from 1 to 178"),
    ("text", {"vocab_size": 0}, "text.vocab_size=0"),
    ("text", {"min_rows": 0}, "text.min_rows=0"),
    ("text", {"dropout": 1.0}, "text.dropout=1.0"),
    ("text", {"max_ngram": 9}, "text.max_ngram=9"),
    ("text", {"units": 0, "encoder": "lstm"}, "text.units=0"),
    ("text", {"encoder": "hub"}, "needs text.hub_handle"),
    ("audio", {"rate_hz": 999}, "audio.rate_hz=999"),
    ("audio", {"high_hz": 9000.0}, "half of audio.rate_hz=16000"),
    ("audio", {"low_hz": 8000.0}, "audio.low_hz=8000"),
    ("audio", {"window_ms": 0, "hop_ms": 0}, "audio.window_ms=0"),
    ("audio", {"hop_ms": 26}, "from 1 to audio.window_ms=25"),
    ("audio", {"clip_s": 0.01}, "audio.clip_s=0.01"),
    ("audio", {"bands": 0}, "audio.bands=0"),
    ("audio", {"mfccs": 65}, "from 1 to audio.bands=64"),
    ("audio", {"dropout": -0.1}, "audio.dropout=-0.1"),
    ("audio", {"units": 0, "encoder": "gru"}, "audio.units=0"),
    ("fusion", {"units": 0}, "fusion.units=0"),
    ("fusion", {"dropout": 1.0}, "fusion.dropout=1.0"),
    ("fusion", {"modality_dropout": 1.0}, "fusion.modality_dropout=1.0"),
    ("augment", {"crop": 1.0}, "augment.crop=1.0"),
    ("augment", {"colour": float("nan")}, "augment.colour=nan"),
    ("augment", {"spec_frames": 1.5}, "augment.spec_frames=1.5"),
    ("augment", {"word_dropout": -1.0}, "augment.word_dropout=-1.0"),
    ("augment", {"spec_bands": -1}, "augment.spec_bands=-1"),
    ("train", {"batch_size": 0}, "train.batch_size=0"),
    ("train", {"learning_rate": 0.0}, "train.learning_rate=0.0"),
    ("train", {"learning_rate": float("inf")}, "train.learning_rate=inf"),
    ("train", {"fine_tune_learning_rate": 0.0}, "train.fine_tune_learning_rate"),
    ("train", {"warmup_epochs": -1.0}, "train.warmup_epochs=-1.0"),
    ("train", {"weight_decay": -1.0}, "train.weight_decay=-1.0"),
    ("train", {"patience": -1}, "train.patience=-1"),
    ("train", {"cache_mb": -1}, "train.cache_mb=-1"),
    ("train", {"fine_tune_epochs": -1}, "train.fine_tune_epochs=-1"),
    ("train", {"label_smoothing": 1.0}, "train.label_smoothing=1.0"),
    ("train", {"ema": 1.0}, "train.ema=1.0"),
    ("evaluate", {"bootstrap_resamples": 9}, "at least 10"),
    ("evaluate", {"worst_errors": -1}, "evaluate.worst_errors=-1"),
    ("evaluate", {"calibration_bins": 1}, "evaluate.calibration_bins=1"),
    ("export", {"tolerance": 0.0}, "export.tolerance=0.0"),
]


@pytest.mark.parametrize(("part", "values", "said"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_name_in_one_line(part, values, said):
    with pytest.raises(UserError) as caught:
        PARTS[part](**values)
    (line,) = str(caught.value).splitlines()
    assert said in line


@pytest.mark.parametrize("values", [{"epochs": 0}, {"seed": -1}, {"seed": 2**31}])
def test_a_run_has_an_epoch_and_a_seed_of_31_bits(values):
    ((name, value),) = values.items()
    with pytest.raises(UserError, match=f"{name}={value} is not possible"):
        Config(**values)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_bears_its_name(preset):
    assert PRESETS[preset]().preset == preset


def test_the_default_is_the_reference_model():
    config = Config()
    assert config == PRESETS["resnet50-concat"]()
    assert (config.image.encoder, config.image.size_px) == ("resnet50", 224)
    assert (config.text.vocab_size, config.text.units) == (512, 256)
    assert (2 * config.audio.bands, config.audio.units) == (128, 64)
    assert config.fusion.units == 128


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_written_as_yaml_is_read_back_as_it_was(preset, tmp_path):
    config = PRESETS[preset]()
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    assert load_config(path) == config


def test_changed_settings_of_every_kind_are_read_back(tmp_path):
    config = Config(
        seed=7,
        on_bad_row="absent",
        table=configs.TableConfig(text_column="Überschrift", modalities="audio,text"),
        text=configs.TextConfig(encoder="hub", hub_handle="https://x/y?a=b#c"),
        audio=configs.AudioConfig(low_hz=0.0, clip_s=0.5),
        augment=configs.AugmentConfig(flip=True),
        train=configs.TrainConfig(learning_rate=1e-5, restore_best=False),
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_config(path) == config


@pytest.mark.parametrize(("part", "name"), SETTINGS)
def test_every_setting_is_explained(part, name):
    assert f"\n    {name}: " in inspect.cleandoc(PARTS[part].__doc__)


def test_settings_cannot_be_changed_later():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().image.size_px = 64


def test_the_files_that_settings_name():
    assert Config().files == {}
    text = {"encoder": "bert", "tokens": "wordpiece", "vocab_file": "vocab.txt"}
    config = Config(
        image=ImageConfig(weights="image.h5"),
        text=TextConfig(weights="text.h5", **text),
    )
    assert config.files == {
        "text.vocab_file": "vocab.txt",
        "image.weights": "image.h5",
        "text.weights": "text.h5",
    }


def test_milliseconds_become_samples():
    audio = configs.AudioConfig(rate_hz=8000, high_hz=4000.0, clip_s=0.5)
    assert (audio.window, audio.hop, audio.max_samples) == (200, 80, 4000)


@pytest.mark.parametrize(
    ("encoder", "weights", "frozen", "expected"),
    [
        ("resnet50", "imagenet", "auto", True),
        ("resnet50", "some.h5", "auto", True),
        ("resnet50", "none", "auto", False),
        ("resnet101", "imagenet", "auto", True),
        ("efficientnetv2", "some.h5", "auto", True),
        ("convnext", "none", "auto", False),
        ("mobilenetv3", "imagenet", "no", False),
        ("kerashub_vit", "imagenet", "auto", False),
        ("kerashub_vit", "none", "auto", False),
        ("kerashub_vit", "some.weights.h5", "auto", True),
        ("small_cnn", "imagenet", "auto", False),
        ("resnet50", "imagenet", "no", False),
        ("small_cnn", "none", "yes", True),
    ],
)
def test_pretrained_weights_are_frozen_unless_told_otherwise(
    encoder, weights, frozen, expected
):
    image = configs.ImageConfig(encoder=encoder, weights=weights, frozen=frozen)
    assert image.is_frozen == expected
