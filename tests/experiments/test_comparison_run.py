import json

import pytest

from mmkeras.config.presets import CAPTIONS, PRESETS, PRETRAINED
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run
from mmkeras.experiments.comparison_run import (
    baseline_rows,
    build_parser,
    locked_folder,
    parse_args,
    plan_models,
    plan_runs,
    train_all,
)
from tests import table_factory
from tests.program_harness import resume_command


@pytest.fixture
def argv(tmp_path):
    """Two seeds on a table with four test rows, the first of them predicted wrong."""
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    path = tmp_path / "data" / "data.csv"
    table = table_factory.write_table(path, table_factory.texts(splits))
    return ["--data", str(table), "--seeds", "2", "--output", str(tmp_path / "my out")]


def parse(*argv, extra_flags=()):
    parser = build_parser("mmkeras.compare", "Compares.")
    for flag in extra_flags:
        parser.add_argument(flag)
    return parse_args(parser, list(argv), extra_flags)


def train(args, models=None):
    models = models or plan_models(args)
    with locked_folder(args, models):
        train_all(models)
    return models


def test_settings_hold_for_all_presets_and_seeds(argv):
    argv += ["--epochs", "7", "--extra", "9"]
    args = parse("--presets", "gated,late", *argv, extra_flags=["--extra"])
    assert args.flags == ("--epochs", "7")
    runs = [run for model in plan_models(args) for run in model.runs.values()]
    expected = [("gated", 0), ("gated", 1), ("late", 0), ("late", 1)]
    assert [(run.config.fusion.kind, run.config.seed) for run in runs] == expected
    assert {run.config.epochs for run in runs} == {7}
    assert [run.folder.name for run in runs] == [f"{p}-seed{s}" for p, s in expected]


def test_there_are_three_seeds_and_a_new_folder_by_default():
    args = parse("--presets", "all")
    assert args.presets == tuple(n for n in PRESETS if n not in (*PRETRAINED, CAPTIONS))
    assert args.seeds == (0, 1, 2)
    assert args.table is None and args.folder.name.endswith("-compare")


def test_another_model_of_a_preset_has_its_own_name_and_folder(tmp_path):
    args = parse("--presets", "gated", "--output", str(tmp_path))
    model = plan_runs(args, "gated", "ordinary", ["--fusion.presence", "false"])
    assert model.name == "gated ordinary"
    assert model.runs[1].folder == tmp_path / "gated-ordinary-seed1"
    assert not model.runs[1].config.fusion.presence


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--presets", "gatd"], "no preset 'gatd'. Did you mean 'gated'?"),
        (["--presets", "late,gated,late"], "presets, each once"),
        (["--presets", ","], "--presets ',' must name presets"),
        ([], "--presets is needed"),
        (["--presets", "late", "--seeds", "0"], "--seeds 0 is not possible; give 1"),
        (["--presets", "late", "--seed=3"], "--seed=3 is for one model; give --pres"),
        (["--presets", "late", "--preset", "late"], "--preset is for one model"),
        (["--presets", "late", "--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--presets", "late", "--epohcs", "3"], "Did you mean '--epochs'?"),
        (["--presets", "gated,mult", "--fusion.width", "6"], "of fusion.heads=4"),
    ],
)
def test_a_mistake_is_refused_before_training(argv, message):
    with pytest.raises(UserError) as error:
        plan_models(parse(*argv))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_all_presets_include_those_that_the_settings_do_not_fit(argv, trainer):
    trainer.wrong = {"r16"}
    flags = ["--text.units", "64", "--seeds", "1"]
    models = train(parse("--presets", "all", *argv, *flags))
    linear = next(model for model in models if model.name == "linear")
    assert "without text.units=64 (0)" in linear.error and not linear.runs
    assert linear.row()["accuracy"] is None and linear.row()["seeds"] == {}
    others = [model for model in models if model is not linear]
    assert {model.row()["accuracy"]["value"] for model in others} == {0.75}
    with pytest.raises(UserError, match="without text.units=64"):
        plan_models(parse("--presets", "linear,late", *argv, *flags))
    with pytest.raises(UserError, match="text.dropout=2.0 is not possible"):
        plan_models(parse("--presets", "all", *argv, "--text.dropout", "2"))


def test_finished_runs_are_not_trained_again(argv, trainer, capsys):
    trainer.wrong = {"r16"}
    args = parse("--presets", "gated,late", *argv)
    train(args, plan_models(args)[:1])
    capsys.readouterr()
    train(args)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] gated, seed 0: accuracy 0.750, finished before",
        "[2/4] gated, seed 1: accuracy 0.750, finished before",
        "[3/4] late, seed 0: accuracy 0.750 in 10 s",
        "[4/4] late, seed 1: accuracy 0.750 in 10 s",
    ]
    names = [
        f"{preset}, seed {seed}" for preset in ("gated", "late") for seed in (0, 1)
    ]
    assert trainer.trained_names == names


def test_a_run_that_fails_is_noted_and_the_others_go_on(argv, trainer, capsys):
    trainer.wrong = {"r16"}
    trainer.failing["gated, seed 0"] = "2 rows cannot be used:\n  line 3"
    gated, late = train(parse("--presets", "gated,late", *argv))
    assert gated.error == "2 rows cannot be used:" and set(gated.finished) == {1}
    assert set(late.finished) == {0, 1}
    assert "[1/4] gated, seed 0: failed; see" in capsys.readouterr().out
    row = gated.row()
    assert row["seeds"] == {1: 0.75} and row["accuracy"]["value"] == 0.75
    assert (row["seconds"], row["peak_mb"]) == (10, 900)
    (baseline,) = baseline_rows([gated, late])
    assert (baseline["name"], baseline["of"]) == ("majority", "late")
    assert baseline["accuracy"] == {"value": 0.5, "low": 0.25, "high": 0.75}


def test_the_cost_of_a_model_is_measured_once(argv, trainer, monkeypatch):
    measured = []

    def measure(command, log):
        measured.append(command[command.index("--model") + 1])
        with open(command[-1], "w") as file:
            json.dump({"parameters": 5, "row_ms": 1.5}, file)
        return ""

    monkeypatch.setattr(comparison_run, "run_with_log", measure)
    args = parse("--presets", "late", *argv)
    for _ in range(2):
        (model,) = train(args)
        assert model.row()["parameters"] == 5 and model.row()["row_ms"] == 1.5
    assert measured == [str(args.folder / "late-seed0")]


def test_ctrl_c_prints_how_to_resume(argv, trainer, capsys):
    trainer.interrupted_at = "late, seed 1"
    argv = ["--presets", "late", "--epochs", "3", *argv]
    with pytest.raises(SystemExit) as end:
        train(parse(*argv))
    assert end.value.code == 130
    command = resume_command(capsys.readouterr().err)
    assert command == ["python", "-m", "mmkeras.compare", *argv]


def test_other_settings_and_other_folders_are_refused(argv, trainer):
    argv = ["--presets", "late", *argv]
    train(parse(*argv))
    with pytest.raises(UserError, match="epochs=auto, .*epochs=3"):
        train(parse(*argv, "--epochs", "3"))
    argv[-1] += "/late-seed0"
    with pytest.raises(UserError, match="holds a single run. .*--output"):
        train(parse(*argv))
