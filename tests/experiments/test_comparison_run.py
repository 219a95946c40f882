import json
import shlex

import pytest

from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run as contests
from tests import table_factory
from tests.fake_training import Trainer


@pytest.fixture
def table(tmp_path):
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    rows = [
        {"id": f"r{i:02d}", "label": "ab"[i % 2], "text": f"word {i}", "split": split}
        for i, split in enumerate(splits)
    ]
    return table_factory.write_table(tmp_path / "data" / "data.csv", rows)


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer(wrong=["r16"])
    monkeypatch.setattr(contests, "perform", trainer)
    monkeypatch.setattr(contests, "as_ctrl_c", lambda: None)
    monkeypatch.setattr(contests, "run_logged", lambda *words: "not measured here")
    return trainer


def understood(*words, own=()):
    parser = contests.build_parser("mmkeras.compare", "Compares.")
    for flag in own:
        parser.add_argument(flag)
    return contests.parse_args(parser, list(words), own)


def entries_of(contest):
    return [contests.plan_runs(contest, preset) for preset in contest.presets]


def test_settings_hold_for_all_presets_and_seeds_alike(table, tmp_path):
    contest = understood(
        *("--presets", "gated,late", "--data", str(table), "--seeds", "2"),
        *("--output", str(tmp_path / "out"), "--epochs", "7", "--own", "9"),
        own=["--own"],
    )
    assert contest.flags == ("--epochs", "7")
    entries = entries_of(contest)
    found = [
        (t.config.preset, t.config.seed) for e in entries for t in e.trials.values()
    ]
    assert found == [("gated", 0), ("gated", 1), ("late", 0), ("late", 1)]
    assert {t.config.epochs for e in entries for t in e.trials.values()} == {7}
    assert {e.trials[0].config.fusion.kind for e in entries} == {"gated", "late"}
    names = [t.folder.name for e in entries for t in e.trials.values()]
    assert names == ["gated-seed0", "gated-seed1", "late-seed0", "late-seed1"]


def test_there_are_three_seeds_and_a_new_folder_unless_told_otherwise():
    contest = understood("--presets", "all")
    assert contest.presets == tuple(PRESETS) and contest.seeds == (0, 1, 2)
    assert contest.table is None and contest.folder.name.endswith("-compare")


def test_another_model_of_a_preset_has_a_name_and_a_folder_of_its_own(tmp_path):
    contest = understood("--presets", "gated", "--output", str(tmp_path))
    flags = ["--fusion.presence", "false"]
    entry = contests.plan_runs(contest, "gated", "ordinary", flags)
    assert entry.name == "gated ordinary"
    assert entry.trials[1].folder == tmp_path / "gated-ordinary-seed1"
    assert not entry.trials[1].config.fusion.presence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--presets", "gatd"], "There is no preset 'gatd'. Did you mean 'gated'?"),
        (["--presets", "late,gated,late"], "must name presets, each once"),
        (["--presets", ","], "--presets ',' must name presets"),
        ([], "--presets is needed; see --help"),
        (["--presets", "late", "--seeds", "0"], "--seeds 0 is not possible; give 1"),
        (["--presets", "late", "--seed=3"], "--seed=3 is for one model; give --pres"),
        (["--presets", "late", "--preset", "late"], "--preset is for one model"),
        (["--presets", "late", "--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--presets", "late", "--epohcs", "3"], "Did you mean '--epochs'?"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    with pytest.raises(UserError) as caught:
        understood(*words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_setting_that_one_preset_cannot_have_is_refused_before_any_is_trained():
    contest = understood("--presets", "gated,mult", "--fusion.width", "6")
    with pytest.raises(UserError, match="multiple of fusion.heads=4"):
        entries_of(contest)


def run_all(contest, entries):
    with contests.locked_folder(contest, entries):
        contests.train_all(entries)


def test_a_run_is_a_line_and_one_that_was_there_says_so(
    table, trainer, tmp_path, capsys
):
    words = ["--presets", "gated,late", "--data", str(table), "--seeds", "2"]
    contest = understood(*words, "--output", str(tmp_path / "out"))
    run_all(contest, entries_of(contest)[:1])
    capsys.readouterr()
    run_all(contest, entries_of(contest))
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] gated, seed 0: accuracy 0.750, was there",
        "[2/4] gated, seed 1: accuracy 0.750, was there",
        "[3/4] late, seed 0: accuracy 0.750 in 10 s",
        "[4/4] late, seed 1: accuracy 0.750 in 10 s",
    ]
    assert trainer.trained_model == ["gated, seed 0", "gated, seed 1"] + [
        "late, seed 0",
        "late, seed 1",
    ]


def test_a_run_that_fails_is_noted_and_the_others_go_on(
    table, trainer, tmp_path, capsys
):
    trainer.failing["gated, seed 0"] = "2 rows cannot be used:\n  line 3"
    words = ["--presets", "gated,late", "--data", str(table), "--seeds", "2"]
    contest = understood(*words, "--output", str(tmp_path / "out"))
    entries = entries_of(contest)
    run_all(contest, entries)
    gated, late = entries
    assert gated.error == "2 rows cannot be used:" and set(gated.finished) == {1}
    assert set(late.finished) == {0, 1}
    assert "[1/4] gated, seed 0: failed; see" in capsys.readouterr().out
    row = gated.row()
    assert row["seeds"] == {1: 0.75} and row["accuracy"]["value"] == 0.75
    assert (row["seconds"], row["peak_mb"]) == (10, 900)
    (simple,) = contests.baselines(entries)
    assert (simple["name"], simple["of"]) == ("majority", "late")
    assert simple["accuracy"] == {"value": 0.5, "low": 0.25, "high": 0.75}


def test_what_a_model_costs_is_measured_once(table, trainer, tmp_path, monkeypatch):
    asked = []

    def measure(command, log):
        asked.append(command[command.index("--model") + 1])
        with open(command[-1], "w") as file:
            json.dump({"parameters": 5, "row_ms": 1.5}, file)
        return ""

    monkeypatch.setattr(contests, "run_logged", measure)
    words = ["--presets", "late", "--data", str(table), "--output", str(tmp_path / "o")]
    contest = understood(*words)
    for _ in range(2):
        (entry,) = entries_of(contest)
        run_all(contest, [entry])
        assert entry.row()["parameters"] == 5 and entry.row()["row_ms"] == 1.5
    assert asked == [str(tmp_path / "o" / "late-seed0")]


def test_ctrl_c_says_how_to_go_on(table, trainer, tmp_path, capsys):
    trainer.interrupted_at = "late, seed 1"
    words = ["--presets", "late", "--data", str(table), "--epochs", "3"]
    contest = understood(*words, "--output", str(tmp_path / "my out"))
    with pytest.raises(SystemExit) as end:
        run_all(contest, entries_of(contest))
    assert end.value.code == 130
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "To go on" in x]
    again = shlex.split(line.removeprefix("To go on: "))
    assert again == ["python", "-m", "mmkeras.compare", *words] + [
        "--output",
        str(tmp_path / "my out"),
    ]


def test_other_settings_and_other_folders_are_refused(table, trainer, tmp_path):
    words = ["--presets", "late", "--data", str(table), "--seeds", "1"]
    words += ["--output", str(tmp_path / "out")]
    contest = understood(*words)
    run_all(contest, entries_of(contest))
    changed = understood(*words, "--epochs", "3")
    with pytest.raises(UserError, match="holds a run with epochs=30, and this one has"):
        run_all(changed, entries_of(changed))
    words[-1] = str(tmp_path / "out" / "late-seed0")
    inside = understood(*words)
    with pytest.raises(UserError, match="holds a single run. Give another --output"):
        run_all(inside, entries_of(inside))
