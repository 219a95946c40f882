import dataclasses

import pytest

from mmkeras.config import (
    AudioConfig,
    Config,
    ImageConfig,
    LossConfig,
    TableConfig,
    TextConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from mmkeras.config.config import override
from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError

PARTS = {f.name: f.default_factory for f in dataclasses.fields(Config)}

# One invalid value per limit.
OUT_OF_RANGE = {
    "table": "val_share=0.0 val_share=nan test_share=-0.1 max_file_mb=0 "
    "rows_per_shard=0 workers=-1 folds=1 fold=1 modalities=text,text modalities=,",
    "image": "size_px=31 width=0 units=0 layers=0 heads=0 patch_px=0 patch_px=225 "
    "max_megapixels=0 max_megapixels=179",
    "text": "vocab_size=0 min_rows=0 layers=0 heads=0 dropout=1.0 max_ngram=0 "
    "max_ngram=9 units=-1 max_tokens=0 tokens=wordpiece vocab_file=v.txt",
    "audio": "rate_hz=999 rate_hz=192001 window_ms=0 hop_ms=26 clip_s=0.01 bands=0 "
    "mfccs=65 segments=0 dropout=-0.1 units=-1",
    "vector": "dropout=1.0 units=-1",
    "tabular": "dropout=1.0 units=-1 min_rows=0 max_categories=0 embedding=0 layers=0 "
    "heads=0",
    "fusion": "units=0 layers=0 width=0 rank=0 heads=0 blocks=0 dropout=1.0 "
    "modality_dropout=1.0",
    "loss": "focal_gamma=-1.0 text=-1.0 text_image=inf width=0",
    "augment": "crop=1.0 colour=nan spec_frames=1.5 word_dropout=-1.0 spec_bands=-1",
    "train": "batch_size=0 learning_rate=0.0 learning_rate=inf warmup_epochs=-1.0 "
    "fine_tune_rate=0.0 fine_tune_decay=0.0 weight_decay=-1.0 patience=-1 cache_mb=-1 "
    "fine_tune_epochs=-1 label_smoothing=1.0 ema=1.0 class_beta=1.0",
    "evaluate": "bootstrap_resamples=9 worst_errors=-1 noise_rows=-1 "
    "calibration_bins=1",
    "export": "tolerance=0.0",
}


@pytest.mark.parametrize(
    ("part", "word"),
    [(part, word) for part, words in OUT_OF_RANGE.items() for word in words.split()],
)
def test_a_value_out_of_range_is_refused_by_name(part, word):
    name, text = word.split("=")
    default = getattr(PARTS[part](), name)
    is_number = default == "auto" and name != "tokens"
    value = int(text) if is_number else type(default)(text)
    with pytest.raises(UserError, match=f"^{part}.{word} is not possible: .* must"):
        PARTS[part](**{name: value})


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("table", {"val_share": 0.5, "test_share": 0.5}, "table.test_share=1 .*below"),
        ("table", {"folds": 1, "fold": 1}, "table.folds=1.*at least 2"),
        ("table", {"folds": 3}, "table.fold=0.*at least 1.*at most table.folds=3"),
        ("table", {"folds": 3, "fold": 4}, "table.fold=4"),
        ("image", {"units": 6}, "image.units=6.*multiple of image.heads=4"),
        ("text", {"units": 0, "encoder": "lstm"}, "text.units=0"),
        ("text", {"encoder": "bert", "units": 6}, "text.units=6.*text.heads=4"),
        ("text", {"encoder": "hub"}, "needs text.hub_handle"),
        ("audio", {"high_hz": 9000.0}, "half of audio.rate_hz=16000"),
        ("audio", {"low_hz": 8000.0}, "audio.low_hz=8000"),
        ("audio", {"units": 0, "encoder": "gru"}, "audio.units=0"),
        ("audio", {"encoder": "hub"}, "needs audio.hub_handle"),
        ("fusion", {"kind": "mult", "width": 6}, "fusion.width=6.*fusion.heads=4"),
        ("train", {"oversample": True}, "class_weights=balanced.*class_weights=none"),
    ],
)
def test_values_that_cannot_be_combined_are_refused(part, values, message):
    with pytest.raises(UserError, match=message):
        PARTS[part](**values)


@pytest.mark.parametrize("values", [{"epochs": 0}, {"seed": -1}, {"seed": 2**31}])
def test_a_run_has_an_epoch_and_a_seed_of_31_bits(values):
    ((name, value),) = values.items()
    with pytest.raises(UserError, match=f"{name}={value} is not possible"):
        Config(**values)


@pytest.mark.parametrize(
    ("name", "kind"), [("text", TextConfig), ("audio", AudioConfig)]
)
def test_the_folder_of_a_hub_module_is_no_pattern(name, kind):
    url = "https://tfhub.dev/google/yamnet/1?tf-hub-format=compressed"
    Config(**{name: kind(encoder="hub", hub_handle=url)})
    with pytest.raises(UserError, match=rf"{name}.hub_handle='my \[1\]' has one of"):
        Config(**{name: kind(encoder="hub", hub_handle="my [1]")})


def test_fine_tuning_needs_a_frozen_encoder():
    train = PARTS["train"](fine_tune_epochs=2)
    with pytest.raises(UserError, match="fine_tune_epochs=2.*there is none"):
        Config(train=train, image=ImageConfig(frozen="no"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ImageConfig(encoder="cnn")}, r"image.encoder=cnn \(pixels"),
        ({"text": TextConfig()}, r"text.units=256 \(0\)"),
        ({"text": TextConfig(encoder="lstm")}, "text.encoder=lstm"),
        ({"audio": AudioConfig(units=3)}, "audio.units=3"),
        (
            {"loss": LossConfig(image=0.5, text_audio=1.0)},
            "loss.image=0.5.*text_audio=1.0",
        ),
        ({"loss": LossConfig(kind="focal")}, r"loss.kind=focal \(auto\)"),
        (
            {"train": TrainConfig(oversample=True, class_weights="none")},
            r"train.oversample=True \(false\)",
        ),
    ],
)
def test_a_linear_model_has_no_other_weights_or_losses(changes, message):
    preset = PRESETS["linear"]()
    message = f"without {message}.*in parentheses"
    with pytest.raises(UserError, match=rf"{message}\.$"):
        dataclasses.replace(preset, **changes)
    with pytest.raises(UserError, match=f"{message}, or start from --preset linear"):
        dataclasses.replace(preset, preset="early", **changes)
    dataclasses.replace(preset, image=ImageConfig(encoder="resnet50"))  # is frozen


def test_the_default_is_the_reference_model():
    assert Config() == PRESETS["resnet50-concat"]()
    assert (Config().text.vocab_size, Config().audio.bands) == (512, 64)


def test_declared_columns_have_the_type_of_their_setting():
    table = TableConfig(text="title, body", image="photo", date="sold", ignore=" a,b ")
    assert table.declared == {
        "title": "text",
        "body": "text",
        "photo": "image",
        "sold": "date",
    }
    assert table.ignored == ("a", "b")
    assert TableConfig(modalities="text, photo").modality_names == ("text", "photo")
    assert TableConfig().declared == {} and TableConfig().modality_names == ()


def test_settings_of_a_column_replace_those_of_its_type():
    text = TextConfig(vocab_size=7)
    changed = override(text, "text", {"encoder": "lstm", "units": "9"})
    assert changed == TextConfig(vocab_size=7, encoder="lstm", units=9)
    assert override(text, "text", {}) == text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encodr": "lstm"}, "no setting 'encodr' in 'text'.*Did you mean 'encoder'"),
        ({"units": "many"}, "text.units needs int"),
        ({"encoder": "lstm", "units": 0}, "text.units=0 is not possible"),
    ],
)
def test_an_impossible_setting_of_a_column_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        override(TextConfig(), "text", values)


def test_settings_are_restored_from_a_mapping():
    columns = {"title": {"type": "text", "encoder": "lstm"}, "photo": "image"}
    config = Config(columns=columns, table=TableConfig(ignore="id2"))
    assert from_dict(to_dict(config)) == config


def test_settings_cannot_be_changed_later():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().image.size_px = 64


def test_the_files_of_settings_are_listed():
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
    audio = AudioConfig(rate_hz=8000, high_hz=4000.0, clip_s=0.5)
    assert (audio.window, audio.hop, audio.max_samples) == (200, 80, 4000)


@pytest.mark.parametrize(
    ("encoder", "weights", "frozen", "expected"),
    [
        ("resnet50", "imagenet", "auto", True),
        ("resnet50", "some.h5", "auto", True),
        ("resnet50", "none", "auto", False),
        ("mobilenetv3", "imagenet", "no", False),
        ("kerashub_vit", "imagenet", "auto", False),
        ("kerashub_vit", "none", "auto", False),
        ("kerashub_vit", "some.weights.h5", "auto", True),
        ("densenet121", "imagenet", "auto", True),
        ("efficientnet_lite0", "lite.pth", "auto", True),
        ("kerashub", "hf://a/b", "auto", True),
        ("keras", "mine.keras", "no", False),
        ("saved_model", "folder", "auto", True),
        ("small_cnn", "imagenet", "auto", False),
        ("small_cnn", "none", "yes", True),
    ],
)
def test_pretrained_weights_are_frozen_by_default(encoder, weights, frozen, expected):
    image = ImageConfig(encoder=encoder, weights=weights, frozen=frozen)
    assert image.is_frozen == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": TrainConfig(label_smoothing=0.2)}, "label_smoothing=0 "),
        ({"train": TrainConfig(class_weights="effective")}, "class_weights=none"),
        (
            {"train": TrainConfig(oversample=True, class_weights="none")},
            "oversample=False",
        ),
        ({"train": TrainConfig(monitor="val_auc")}, "monitor=val_loss"),
        ({"loss": LossConfig(kind="focal")}, "mse or mae or huber"),
    ],
)
def test_a_regression_refuses_what_is_for_classes(changes, words):
    with pytest.raises(UserError) as error:
        Config(task="regression", **changes)
    text = str(error.value).replace(".", " ")
    assert words in text and "task=regression" in text


def test_a_regression_ignores_the_defaults_of_classes():
    for name in PRESETS.keys() - {"zero-shot"}:  # which has classes only
        dataclasses.replace(PRESETS[name](), task="regression")


def test_classes_refuse_a_loss_of_regression():
    with pytest.raises(UserError, match="loss.kind=mae.*cross_entropy or focal"):
        Config(loss=LossConfig(kind="mae"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"encoder": "xception", "size_px": 70}, "size_px=70 .*at least 71.*xception"),
        ({"encoder": "inceptionv3", "size_px": 74}, "image.size_px=74 .*at least 75"),
        ({"encoder": "keras"}, "image.encoder=keras needs image.weights: .*.keras"),
        ({"encoder": "kerashub", "weights": "none"}, "the folder or the handle"),
        (
            {"encoder": "saved_model", "weights": "a", "frozen": "no"},
            "image.frozen=no .*auto or yes",
        ),
    ],
)
def test_an_image_encoder_that_is_not_possible_is_refused(settings, reason):
    with pytest.raises(UserError, match=rf"\A.*{reason}.*\Z"):
        ImageConfig(**settings)


def test_only_a_file_of_image_weights_is_checked_as_one():
    files = {
        ("keras", "mine.keras"): {"image.weights": "mine.keras"},
        ("kerashub", "folder"): {},
        ("kerashub", "hf://a/b"): {},
        ("saved_model", "folder"): {},
    }
    for (encoder, weights), expected in files.items():
        image = ImageConfig(encoder=encoder, weights=weights)
        assert Config(image=image).files == expected
