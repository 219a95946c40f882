import json
from dataclasses import replace

import pytest

from mmkeras.errors import UserError
from mmkeras.experiments.search_folder import (
    SearchArgs,
    TrialResult,
    compare_with_first,
    is_finished,
    read_search,
    search_summary,
    write_search,
)

ARGS = SearchArgs(
    table=None,
    presets=("small-concat", "linear"),
    is_named=True,
    user_values={"epochs": 3},
    minutes=10,
    trials=0,
)
INTERVAL = {"low": -0.02, "high": 0.1}
RESULT = {
    "task": "multiclass",
    "weights": {"2": 0.75, "0": 0.25},
    "validation": {"loss": 0.5, "score": 0.9},
    "test": {
        "ensemble": {"value": 0.875},
        "first": {"value": 0.825},
        "difference": {"value": 0.05, **INTERVAL},
    },
}
TRIALS = [
    TrialResult(number=0, preset="small-concat", state="complete", loss=0.7, score=0.8),
    TrialResult(number=1, preset="linear", state="pruned", epochs=5),
    TrialResult(
        number=2,
        preset="small-concat",
        settings={"fusion.kind": "late", "train.learning_rate": 0.0012345},
        state="complete",
        loss=0.6,
        score=0.85,
        epochs=30,
        seconds=12.4,
    ),
]


def write(folder, trials=TRIALS, seconds=99.0, is_exhausted=False, **more):
    content = {"fixed": ARGS.fixed, "seconds": seconds, "is_exhausted": is_exhausted}
    write_search(folder, content, trials, **more)
    return read_search(folder, ARGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presets": ("linear",)}, "presets=small-concat,linear, .* presets=linear"),
        (
            {"user_values": {"epochs": 4}},
            "a search with epochs=3, and this one has epochs=4",
        ),
        (
            {"user_values": {}},
            "epochs=3, and this one has no epochs. Give another --output",
        ),
        ({"user_values": {"epochs": 3, "seed": 1}}, "with no seed, .* seed=1"),
    ],
)
def test_a_search_for_something_else_is_refused(change, message, tmp_path):
    assert read_search(tmp_path, ARGS) == {}
    write(tmp_path)
    with pytest.raises(UserError, match=message):
        read_search(tmp_path, replace(ARGS, **change))


def test_the_folder_of_a_run_is_refused(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="holds a single run. Give another --output"):
        read_search(tmp_path, ARGS)


def test_a_search_is_finished_if_its_ensemble_is_there_and_no_trial_is_left(tmp_path):
    args = replace(ARGS, trials=3)
    assert not is_finished({}, ARGS)
    assert not is_finished(write(tmp_path, seconds=600.0), ARGS)
    assert is_finished(write(tmp_path, seconds=600.0, result=RESULT), ARGS)
    content = write(tmp_path, result=RESULT)
    assert not is_finished(content, ARGS)
    assert is_finished(content, args)
    assert not is_finished(content, replace(args, trials=4))
    stopped = [*TRIALS[:2], replace(TRIALS[2], state="stopped")]
    assert not is_finished(write(tmp_path, stopped, result=RESULT), args)
    assert is_finished(write(tmp_path, is_exhausted=True, result=RESULT), ARGS)


def test_the_best_trials_are_shown_with_their_weights(tmp_path):
    write(tmp_path, result=RESULT)
    table, rest = search_summary(tmp_path).split("\n3 trials: ")
    header, _, best, first, ensemble = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    )
    assert header[:4] == ["trial", "settings", "validation loss", "accuracy"]
    assert best == [
        "002",
        "small-concat, fusion.kind=late",
        "0.600",
        ".850",
        "30",
        "12",
        ".750",
    ]
    assert first[:2] == ["000", "small-concat"] and first[-1] == ".250"
    assert ensemble[0] == "ensemble" and ensemble[2:4] == ["0.500", ".900"]
    assert rest.startswith("2 complete, 1 pruned.") and "tune.json" in rest
    trials = json.loads((tmp_path / "tune.json").read_text())["trials"]
    assert [TrialResult(**trial) for trial in trials] == TRIALS


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.05, "accuracy 87.5 %, 5.0 points above the default settings (82.5 %; "),
        (-0.05, "accuracy 87.5 %, 5.0 points below the default settings"),
        (0.0, "accuracy 87.5 %, the same as the default settings"),
    ],
)
def test_the_test_rows_show_whether_the_search_was_worth_it(gain, words):
    difference = {"value": gain, **INTERVAL}
    result = {**RESULT, "test": {**RESULT["test"], "difference": difference}}
    text = compare_with_first(result)
    assert words in text and "95 % interval -2.0 to +10.0" in text
