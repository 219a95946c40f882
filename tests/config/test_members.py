from dataclasses import replace

import pytest

from mmkeras.config import EnsembleConfig
from mmkeras.config.members import member_configs
from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError


def members_of(presets="pretrained-small,small-concat", preset="best", **changes):
    config = replace(PRESETS[preset](), ensemble=EnsembleConfig(presets=presets))
    for name, values in changes.items():
        value = values
        if isinstance(values, dict):
            value = replace(getattr(config, name), **values)
        config = replace(config, **{name: value})
    return member_configs(config)


def test_members_have_the_settings_of_their_presets():
    members = members_of(preset="pretrained-small")
    assert list(members) == ["pretrained-small", "small-concat"]
    assert all(members[name] == PRESETS[name]() for name in members)


def test_what_the_preset_of_an_ensemble_changes_reaches_its_members():
    changed = PRESETS["best"]().audio
    assert changed.segments > PRESETS["pretrained-small"]().audio.segments
    members = member_configs(PRESETS["best"]())
    assert len(members) == 5
    for name, member in members.items():
        preset = PRESETS[name]()
        audio = replace(changed, units=preset.audio.units, dropout=preset.audio.dropout)
        assert member == replace(preset, audio=audio)


def test_a_change_reaches_members_with_the_same_value_in_their_presets():
    members = members_of(text={"weights": "/models/MiniLM"}, epochs=10)
    assert members["pretrained-small"].text.weights == "/models/MiniLM"
    assert members["small-concat"].text == PRESETS["small-concat"]().text
    assert {member.epochs for member in members.values()} == {10}


@pytest.mark.parametrize("kind", ["mae", "huber"])
def test_members_have_losses_of_the_task(kind):
    members = members_of("gated,late", "gated", task="regression", loss={"kind": kind})
    assert {member.loss.kind for member in members.values()} == {kind}


def test_what_the_preset_of_an_ensemble_changes_may_reach_no_member():
    members = members_of("cross-attention,mult")
    assert members["mult"].audio.encoder == "cnn"
    with pytest.raises(UserError, match="than the preset pretrained-small"):
        members_of("cross-attention,mult", audio={"encoder": "gru"})


def test_rows_seed_and_evaluation_are_those_of_the_run():
    members = members_of(seed=5, table={"label": "kind"}, evaluate={"noise_rows": 0})
    for member in members.values():
        assert member.seed == 5 and member.table.label == "kind"
        assert member.evaluate.noise_rows == 0


def test_folds_alone_are_of_the_preset_of_the_run():
    config = replace(PRESETS["gated"](), ensemble=EnsembleConfig(folds=3))
    assert member_configs(config) == {"gated": PRESETS["gated"]()}


@pytest.mark.parametrize(
    ("presets", "reason"),
    [
        ("gated,linaer", "no preset 'linaer'.*linear"),
        ("gated,best", "ensemble itself"),
        ("gated,gated", "a preset twice"),
        ("gated", "is one model"),
    ],
)
def test_other_members_are_refused(presets, reason):
    with pytest.raises(UserError, match=reason):
        members_of(presets)


def test_a_change_that_reaches_no_member_is_refused():
    with pytest.raises(UserError, match="text.weights=/models/x changes no member"):
        members_of("small-concat,gated", text={"weights": "/models/x"})
