import json
import shutil

import pytest

from mmkeras import train
from mmkeras.errors import UserError
from mmkeras.evaluate import evaluate_table, main
from mmkeras.training import run_folder
from tests import table_factory
from tests.program_harness import cached_model, error_of, output_of, read_csv, to_argv


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = table_factory.trained_run(tmp_path_factory)
    with cached_model(run[0]):
        yield run


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


@pytest.mark.slow
def test_labels_are_joined_as_in_training_also_in_a_folder_with_brackets(tmp_path):
    rows = table_factory.texts()
    for i, row in enumerate(rows):
        row["label"] = row["label"].upper() if i % 3 else row["label"]
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache", table={"join_labels": True})
    run_folder.write_config(tmp_path, config)
    folder, output = tmp_path / "my [1] run", tmp_path / "new [2]"
    output_of(train.main, table_factory.run_flags(folder, table))

    evaluate_table(folder, table, output, "test", "fail")

    before, again = (
        json.loads((path / "metrics.json").read_text()) for path in (folder, output)
    )
    assert again["classes"] == before["classes"] == ["a", "b"]
    assert again["rows"] == before["rows"] == 8
    assert (folder / "export" / "1" / "saved_model.pb").is_file()


def test_predictions_and_report_are_written_with_the_metrics(output):
    names = sorted(path.name for path in output.iterdir())
    assert names == ["confusion.csv", "metrics.json", "predictions.csv", "report.html"]
    ids = [row["id"] for row in read_csv(output / "predictions.csv")]
    assert ids == [f"r{i}" for i in range(32, 40)]


def test_bad_rows_of_another_table_are_refused_by_default(run, tmp_path):
    folder, table = run
    data = shutil.copytree(table.parent, tmp_path / "data")
    with pytest.raises(UserError, match="1 of 8 rows cannot be used:\n  line 37 "):
        evaluate_table(folder, data / table.name, tmp_path / "new", "test", "fail")
    assert not (tmp_path / "new").exists()


def test_warnings_are_printed_with_hints_that_fit(run, tmp_path, monkeypatch, capsys):
    rows = [
        {"text": "warm fire", "image": "", "audio": "", "label": label}
        for label in ("red", "green")
    ]
    table = table_factory.write_table(tmp_path / "d.csv", rows)
    flags = {"--model": run[0], "--data": table, "--output": tmp_path / "new"}
    assert main(to_argv(flags)) == 0
    err = capsys.readouterr().err.splitlines()
    assert "Warning: Column 'image' is empty in all 2 rows." in err
    assert not any("--table.modalities" in line for line in err)


def test_columns_are_checked_before_the_rows_of_a_table_with_the_name_of_the_runs(
    run, tmp_path
):
    folder = shutil.copytree(run[0], tmp_path / "run")
    table = table_factory.write_table(
        tmp_path / "d.csv", [{"text": "a", "image": "gone.png", "label": "red"}]
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"data": str(table)}))
    with pytest.raises(UserError, match="lacks the column 'audio'"):
        evaluate_table(folder, table, tmp_path / "new", "test", "fail")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--data": "other.csv"}, "does not know: purple. Known: green, red"),
        ({"--data": "few.csv"}, "lacks the columns 'image' and 'audio' that the model"),
        ({"--output": "."}, "--output '.' exists already; give a new folder"),
        ({"--model": "."}, "'.' holds no config.yaml"),
    ],
)
def test_a_mistake_is_one_line(changes, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": t, "image": "", "audio": "", "label": "red"} for t in ("a", "b")]
    table_factory.write_table(tmp_path / "d.csv", rows)
    rows[1]["label"] = "purple"
    table_factory.write_table(tmp_path / "other.csv", rows)
    table_factory.write_table(tmp_path / "few.csv", [{"text": "a", "label": "red"}])
    flags = {"--model": run[0], "--data": "d.csv", "--output": "new"}
    argv = to_argv({**flags, **changes})
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert not (tmp_path / "new").exists()
