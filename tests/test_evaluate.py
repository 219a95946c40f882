import json
import shutil

import pytest

from mmkeras.errors import UserError
from mmkeras.evaluate import evaluate_table, main
from tests import table_factory
from tests.program_harness import cached_model, error_of, read_csv, to_argv


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def loaded_once(run):
    with cached_model(run[0]):
        yield


@pytest.fixture(scope="module")
def output(run, tmp_path_factory):
    """The evaluation of the run's own table."""
    output = tmp_path_factory.mktemp("evaluated") / "new"
    evaluate_table(*run, output, "test", "absent")
    return output


def test_the_runs_own_test_rows_have_the_same_metrics_again(run, output):
    again = json.loads((output / "metrics.json").read_text())
    before = json.loads((run[0] / "metrics.json").read_text())
    for key in ("rows", "classes", "task", "status", "unreadable_rows"):
        assert again[key] == before[key], key
    for name, value in before["metrics"].items():
        assert again["metrics"][name] == pytest.approx(value, abs=1e-6), name
    # The logistic regression would need the training rows.
    assert set(again["baselines"]) == {"majority"}


def test_predictions_and_report_are_written_with_the_metrics(run, output):
    names = sorted(path.name for path in output.iterdir())
    assert names == ["metrics.json", "predictions.csv", "report.html"]
    again, before = (read_csv(p / "predictions.csv") for p in (output, run[0]))
    for row, expected in zip(again, before, strict=True):
        for name in ("id", "label", "predicted", "status"):
            assert row[name] == expected[name]
        assert float(row["score"]) == pytest.approx(float(expected["score"]), abs=2e-6)


def test_bad_rows_of_another_table_are_refused_by_default(run, tmp_path):
    folder, table = run
    data = shutil.copytree(table.parent, tmp_path / "data")
    with pytest.raises(UserError, match="1 of 8 rows cannot be used:\n  line 37 "):
        evaluate_table(folder, data / table.name, tmp_path / "new", "test", "fail")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--data": "other.csv"}, "does not know: purple. Known: green, red"),
        ({"--output": "."}, "--output '.' exists already; give a new folder"),
        ({"--output": "d.csv"}, "exists already"),
        ({"--model": "."}, "'.' holds no config.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    changes, message, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "hi", "label": "red"}, {"text": "ho", "label": "red"}]
    table_factory.write_table(tmp_path / "d.csv", rows)
    rows[1]["label"] = "purple"
    table_factory.write_table(tmp_path / "other.csv", rows)
    flags = {"--model": run[0], "--data": "d.csv", "--output": "new"}
    argv = to_argv({**flags, **changes})
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert not (tmp_path / "new").exists()
