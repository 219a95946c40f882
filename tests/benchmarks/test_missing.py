import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import missing, simple
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run
from tests import table_factory
from tests.fake_training import Trainer


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cells_are_removed_with_their_probability_but_never_all_of_a_row():
    present = np.ones((20_000, 3), bool)
    present[:5000, 1] = False
    remains = missing.keep_cells(present, 0.5, seed=0)
    assert not (remains & ~present).any() and remains.any(axis=1).all()
    # Each of three cells is removed with 1/2; all three, with 1/8, leave one.
    assert remains[5000:].mean() == pytest.approx((3 / 2 + 1 / 8) / 3, abs=0.01)
    assert remains[5000:].mean(axis=0) == pytest.approx(13 / 24, abs=0.02)
    few = missing.keep_cells(present, 0.9, seed=0)
    assert few[5000:].sum(axis=1).mean() == pytest.approx(0.3 + 0.729, abs=0.02)
    assert (missing.keep_cells(present, 0.5, seed=0) == remains).all()
    assert (missing.keep_cells(present, 0.5, seed=1) != remains).any()


@pytest.mark.parametrize("words", ["a", "50,100", "0", ""])
def test_impossible_probabilities_are_refused(words):
    with pytest.raises(UserError, match="--missing.*from 1 to 99"):
        missing.main(["--presets", "late", "--missing", words])


@pytest.fixture
def commands(monkeypatch):
    """Commands of fake processes; with holes, the ordinary model is always wrong."""
    commands = []

    def run_with_log(command, log):
        commands.append(command)
        module, output = command[2], Path(command[-1])
        if module == "mmkeras.predict":
            rows = read_csv(Path(command[command.index("--data") + 1]))
            is_wrong = "ordinary" in output.name
            lines = [
                [r["id"], r["label"], "x" if is_wrong else r["label"]] for r in rows
            ]
            with output.open("w", newline="") as file:
                csv.writer(file).writerows([["id", "label", "predicted"], *lines])
        if module == "benchmarks.simple":
            output.mkdir()
            value = {"accuracy": {"value": 0.25, "low": 0.2, "high": 0.3}}
            metrics = {"baselines": {"majority": value}}
            (output / "metrics.json").write_text(json.dumps(metrics))
        if module == "mmkeras.cost":
            output.write_text(json.dumps({"parameters": 7, "row_ms": 1.0}))
        return ""

    monkeypatch.setattr(comparison_run, "run_subprocess", Trainer(wrong=["r32", "r33"]))
    monkeypatch.setattr(comparison_run, "sigterm_as_keyboard_interrupt", lambda: None)
    monkeypatch.setattr(comparison_run, "run_with_log", run_with_log)
    monkeypatch.setattr(missing, "run_with_log", run_with_log)
    return commands


@pytest.fixture
def argv(tmp_path):
    table = table_factory.write_table(
        tmp_path / "data" / "data.csv", table_factory.make_rows()
    )
    words = ["--data", str(table), "--presets", "late", "--seeds", "2"]
    return [*words, "--output", str(tmp_path / "out")]


def predictions_in(commands):
    return [c for c in commands if c[2] == "mmkeras.predict"]


def test_both_models_get_the_same_rows_and_are_compared(
    commands, argv, tmp_path, capsys
):
    assert missing.main(argv) == 0
    predictions = predictions_in(commands)
    assert len(predictions) == 4
    tables = {c[c.index("--data") + 1] for c in predictions}
    assert len(tables) == 2  # one per seed
    assert sum(c[2] == "mmkeras.cost" for c in commands) == 1

    content = json.loads((tmp_path / "out" / "missing.json").read_text())
    names = [row["name"] for row in content["models"]]
    assert names == ["late", "late ordinary", "late gain"]
    late, ordinary, gain = (row["at"] for row in content["models"])
    assert late["0"]["value"] == ordinary["0"]["value"] == 0.75
    for chance in ("50", "90"):
        assert late[chance]["value"] == gain[chance]["value"] == 1
        assert ordinary[chance]["value"] == 0
    (majority,) = content["baselines"]
    assert majority["at"]["0"]["value"] == 0.5 and majority["at"]["90"]["value"] == 0.25
    page = (tmp_path / "out" / "missing.md").read_text()
    assert page in capsys.readouterr().out
    assert "| late ordinary " in page and "% of the rows lack something" in page


def test_cells_are_missing_in_test_rows_and_paths_are_absolute(
    commands, argv, tmp_path
):
    missing.main(argv)
    rows = read_csv(tmp_path / "out" / "holes90-seed0.csv")
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(32, 40)]
    cells = [[row[m] for m in ("text", "image", "audio")] for row in rows]
    assert all(any(row) for row in cells) and not all(all(row) for row in cells)
    paths = [row[m] for row in rows for m in ("image", "audio") if row[m]]
    assert paths and all(Path(p).is_absolute() and Path(p).is_file() for p in paths)
    ids = [row["id"] for row in read_csv(tmp_path / "out" / "holes0-seed0.csv")]
    assert len(ids) == 16 and ids[0] == "50:r32" and ids[-1] == "90:r39"


def test_the_same_command_predicts_again_only_for_other_probabilities(commands, argv):
    missing.main(argv)
    before = len(commands)
    assert missing.main(argv) == 0 and len(commands) == before
    assert missing.main([*argv, "--missing", "30"]) == 0
    assert len(predictions_in(commands[before:])) == 4


@pytest.mark.slow
def test_baselines_of_another_table_equal_those_of_a_report(tmp_path_factory, tmp_path):
    run, table = table_factory.trained_run(tmp_path_factory)
    data = shutil.copytree(table.parent, tmp_path / "data")
    rows = [r for r in read_csv(data / "data.csv")[32:] if r["image"][:3] != "035"]
    with (data / "few.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    simple.main([str(run), str(data / "few.csv"), str(tmp_path / "new")])
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert metrics["rows"] == 7
    baselines = metrics["baselines"]
    logistic = baselines["logistic_regression"]["accuracy"]["value"]
    assert logistic >= 0.7 > baselines["majority"]["accuracy"]["value"]
