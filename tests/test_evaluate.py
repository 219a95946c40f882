import csv
import json
import shutil
import sys

import pytest

from mmkeras.cli import run_program
from mmkeras.errors import UserError
from mmkeras.evaluate import evaluate_table, main
from tests import table_factory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(run, tmp_path_factory):
    """The run's own table again: the folder, and what was printed."""
    output = tmp_path_factory.mktemp("evaluated") / "new"
    folder, table = run
    evaluate_table(folder, table, output, "test", "absent")
    return output


def test_the_runs_own_test_rows_measure_the_same_again(run, evaluated):
    again = json.loads((evaluated / "metrics.json").read_text())
    before = json.loads((run[0] / "metrics.json").read_text())
    for key in ("rows", "classes", "task", "status", "unreadable_rows"):
        assert again[key] == before[key], key
    for name, value in before["metrics"].items():
        assert again["metrics"][name] == pytest.approx(value, abs=1e-6), name
    # The logistic regression would need the training rows.
    assert set(again["baselines"]) == {"majority"}


def test_predictions_and_report_stand_beside_the_metrics(run, evaluated):
    names = sorted(path.name for path in evaluated.iterdir())
    assert names == ["metrics.json", "predictions.csv", "report.html"]
    again, before = (read(p / "predictions.csv") for p in (evaluated, run[0]))
    for one, other in zip(again, before, strict=True):
        for name in ("id", "label", "predicted", "status"):
            assert one[name] == other[name]
        assert float(one["score"]) == pytest.approx(float(other["score"]), abs=2e-6)


def test_bad_rows_are_refused_unless_told_otherwise(run, tmp_path):
    folder, table = run
    data = shutil.copytree(table.parent, tmp_path / "data")  # another table
    table = data / table.name
    with pytest.raises(UserError, match="1 of 8 rows cannot be used:\n  line 37 "):
        evaluate_table(folder, table, tmp_path / "new", "test", "fail")
    assert not (tmp_path / "new").exists()


def test_labels_that_the_model_does_not_know_are_refused(run, tmp_path):
    rows = [{"text": "hi", "label": "red"}, {"text": "ho", "label": "purple"}]
    table = table_factory.write_table(tmp_path / "d.csv", rows)
    with pytest.raises(UserError, match="does not know: purple. Known: green, red"):
        evaluate_table(run[0], table, tmp_path / "new", "test", "fail")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--output": "."}, "--output '.' is there already; give a new folder"),
        ({"--output": "d.csv"}, "is there already"),
        ({"--model": "."}, "'.' holds no config.yaml"),
        ({"--split": "tset"}, "split"),
        ({"--on-bad-row": "ignore"}, "bad-row"),
        ({"--output": None}, "output"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    changes, message, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "d.csv", [{"text": "hi", "label": "red"}])
    flags = {"--model": str(run[0]), "--data": "d.csv", "--output": "new"}
    flags = {k: v for k, v in {**flags, **changes}.items() if v}
    argv = [word for flag in flags.items() for word in flag]
    monkeypatch.setattr(sys, "argv", ["evaluate", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "new").exists()
