from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmkeras.config.presets import PRESETS, PRETRAINED
from mmkeras.errors import UserError
from mmkeras.experiments.search_space import (
    ENCODERS,
    OWN,
    SEARCHED,
    SETTINGS,
    Candidate,
    SearchSpace,
    build,
    find_space,
)
from mmkeras.modalities.columns import build_branches, build_columns
from tests.modalities.text import bert_folder
from tests.preset_models import FROM_SCRATCH

THREE = ("text", "image", "audio")
RATES = {"train.learning_rate", "train.weight_decay", "train.label_smoothing"}


class Chooser:
    """Chooses by name, else the last of several values and the highest number."""

    def __init__(self, **values):
        self.values = values

    def suggest_categorical(self, name, choices):
        assert self.values.setdefault(name, choices[-1]) in choices
        return self.values[name]

    def suggest_float(self, name, low, high, *, log):
        assert low <= self.values.setdefault(name, high) <= high
        assert low > 0 or not log
        return self.values[name]


def space_of(*presets, columns=THREE, **user_values) -> SearchSpace:
    columns = {name: {"type": name} for name in columns}
    candidates = {}
    for preset in presets:
        config = replace(build(preset, {}, user_values), columns=columns)
        branches = build_branches(build_columns(config), config)
        candidates[preset] = Candidate(config=config, branches=branches)
    return SearchSpace(
        candidates=candidates, user_values=user_values, encoders=ENCODERS
    )


def chosen(space, **values) -> set[str]:
    """Returns the names of what is chosen."""
    chooser = Chooser(**values)
    space.suggest(chooser)
    return set(chooser.values)


@pytest.mark.parametrize("preset", sorted({*FROM_SCRATCH, *PRETRAINED} - {"zero-shot"}))
def test_a_trial_can_have_the_default_settings_of_a_preset(preset):
    space = space_of(*dict.fromkeys(["gated", "late", preset]))
    defaults = space.defaults(preset)
    assert defaults["preset"] == preset
    assert space.suggest(Chooser(**defaults)) == PRESETS[preset]()
    searched = {setting.name for setting in SETTINGS}
    assert (preset == "linear") == (not searched & set(defaults))


def test_settings_of_the_user_are_not_searched():
    user_values = {"train.learning_rate": 1e-4, "fusion.kind": "gated"}
    space = space_of(
        "small-concat", **user_values, **{"audio.encoder": "log_mel_stats"}
    )
    chooser = Chooser()
    config = space.suggest(chooser)
    assert not {*user_values, "audio.encoder"} & set(chooser.values)
    assert (config.train.learning_rate, config.fusion.kind) == (1e-4, "gated")
    assert config.train.weight_decay == 3.0


def test_only_settings_with_an_effect_are_searched():
    everything = chosen(space_of("small-concat"), **{"fusion.kind": "concat"})
    assert RATES | {"fusion.kind", "fusion.modality_dropout"} < everything
    assert "audio.segments" in everything
    one = chosen(space_of("small-concat", columns=["text"]))
    assert not one & {"fusion.kind", "fusion.modality_dropout", "image.encoder"}
    assert "audio.segments" not in one
    assert "audio.segments" not in chosen(space_of("mult"))  # frames, no statistics
    late = chosen(space_of("small-concat"), **{"fusion.kind": "late"})
    assert not late & {"fusion.units", "fusion.modality_dropout"}
    assert "fusion.units" not in chosen(space_of("interaction"))
    # Other fusions are what their presets are for; those of tokens keep the encoders.
    assert not chosen(space_of("mult")) & {"fusion.kind", *ENCODERS}
    regression = chosen(space_of("small-concat", task="regression"))
    assert RATES - regression == {"train.label_smoothing"}
    assert "train.weight_decay" not in chosen(
        space_of("small-concat", **{"train.optimizer": "adam"})
    )
    assert "train.fine_tune_rate" in chosen(space_of("pretrained"))


def test_another_encoder_comes_with_its_settings():
    defaults = dict.fromkeys(ENCODERS, OWN)
    space = space_of("small-concat")
    config = space.suggest(
        Chooser(**{**defaults, "image.encoder": "efficientnet_lite0"})
    )
    assert config.image == PRESETS["pretrained-small"]().image
    assert config.text == PRESETS["small-concat"]().text
    assert "vector.units" not in chosen(space, **defaults)
    assert "vector.units" in chosen(space, **{**defaults, "text.encoder": "bert"})
    no_frozen = space_of("pretrained-small", columns=["audio"])
    assert "vector.units" not in chosen(no_frozen)
    linear = space_of("linear").suggest(Chooser())  # with frozen encoders
    assert linear.text.is_frozen and linear.image.is_frozen


def test_mfccs_are_those_of_the_preset_best_or_of_the_user():
    chooser = Chooser(**dict.fromkeys(ENCODERS, OWN) | {"audio.encoder": "mfcc_stats"})
    assert space_of("small-concat").suggest(chooser).audio.mfccs == 13
    user_values = {"audio.mfccs": 8, "audio.bands": 8}
    config = space_of("small-concat", **user_values).suggest(chooser)
    assert (config.audio.encoder, config.audio.mfccs) == ("mfcc_stats", 8)


def test_weights_of_the_user_are_for_the_encoders_that_take_some():
    user_values = {"text.weights": "folder", "epochs": 3}
    assert build("small-concat", {}, user_values).text.weights == "none"
    assert build("pretrained-small", {}, user_values).text.weights == "folder"
    other = build("small-concat", ENCODERS["text.encoder"]["bert"], user_values)
    assert other.text.weights == "folder" and other.epochs == 3
    with pytest.raises(UserError, match="epochs=0"):
        build("small-concat", {}, {**user_values, "epochs": 0})


def rows_of(*columns) -> SimpleNamespace:
    """A stand-in for a data set, of which only the columns are used."""
    return SimpleNamespace(columns={name: {"type": name} for name in columns})


def test_presets_are_searched_that_differ_and_need_no_download(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    space, reasons = find_space(SEARCHED, False, {}, rows_of("text"))
    assert list(space.candidates) == [n for n in SEARCHED if n != "pretrained-small"]
    assert set(reasons) == {"pretrained-small", "text.encoder=bert"}
    assert "--text.weights DIR" in reasons["pretrained-small"]
    assert space.encoders == {}

    # Without images a CNN for them is no other preset.
    names = ("small-concat", "cnn-rnn", "pretrained-small")
    space, reasons = find_space(names, False, {}, rows_of("audio"))
    assert (list(space.candidates), reasons) == (["small-concat"], {})
    assert space.encoders == {"audio.encoder": ENCODERS["audio.encoder"]}


def test_presets_with_weights_of_the_user_are_searched(tmp_path):
    weights = {"text.weights": str(bert_folder.write_folder(tmp_path / "bert"))}
    space, reasons = find_space(SEARCHED, False, weights, rows_of("text"))
    assert list(space.candidates) == list(SEARCHED) and not reasons
    assert list(space.encoders) == ["text.encoder"]


def test_a_preset_that_is_named_is_searched_or_refused(monkeypatch, tmp_path):
    user_values = {"text.units": 64}
    named = ("small-concat", "linear")
    with pytest.raises(UserError, match="without text.units=64"):
        find_space(named, True, user_values, rows_of("text"))
    space, reasons = find_space(named, False, user_values, rows_of("text", "audio"))
    assert list(space.candidates) == ["small-concat"]
    assert "text.units=64" in reasons["linear"]
    weights = {"text.weights": str(tmp_path / "none")}
    with pytest.raises(UserError, match="text.weights='.*none' is no folder"):
        find_space(("linear", "pretrained-small"), True, weights, rows_of("text"))
