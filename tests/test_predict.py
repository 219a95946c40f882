import csv
import os
import sys

import pytest

from mmkeras import predict as predicting
from mmkeras.cli import run_program
from mmkeras.data import table as tabling
from mmkeras.errors import UserError
from mmkeras.export.inference import load_trained
from mmkeras.predict import main, predict
from tests import table_factory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def loaded_once(run):
    """Loads and traces the model once for all tests here."""
    from mmkeras.export import inference

    trained_model = load_trained(run[0])
    predictor = inference.Predictor(trained_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "load_trained", lambda _: trained_model)
        patch.setattr(inference, "Predictor", lambda _: predictor)
        yield


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_runs_own_test_rows_get_the_same_answers_again(run, tmp_path, capsys):
    folder, table = run
    out = tmp_path / "out.csv"
    argv = ["--model", str(folder), "--data", str(table), "--output", str(out)]
    assert main(argv) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "40 rows predicted, 1 of them with something unreadable.",
        f"Predictions: {out}",
    ]
    rows = {row["id"]: row for row in read(out)}
    assert list(rows) == [f"r{i:02d}" for i in range(40)]
    for expected in read(folder / "predictions.csv"):
        row = rows[expected["id"]]
        assert list(row) == list(expected)
        for name in ("label", "predicted", "status"):
            assert row[name] == expected[name]
        for name in ("score", "green", "red"):
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=2e-6)


def test_a_table_without_labels_and_with_broken_rows_gets_an_answer_a_row(
    run, tmp_path
):
    rows = [
        {
            "text": "warm fire",
            "image": table_factory.image(),
            "audio": table_factory.tone(),
        },
        {"text": "", "image": "gone.png", "audio": table_factory.tone(kind="FLAC")},
        {"text": "", "image": "", "audio": ""},
        {"text": "caf\udce9", "image": table_factory.image(kind="TIFF"), "audio": ""},
        {"text": "hi", "image": b"", "audio": b"RIFF"},
    ]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    with table.open("a") as file:
        file.write("too,few\n")
    out = tmp_path / "out.csv"

    assert predict(run[0], table, out) == (6, 4)

    found = read(out)
    assert [row["id"] for row in found] == [str(i) for i in range(6)]
    assert [row["status"] for row in found] == [
        "ok",
        "text absent; image unreadable",
        "text absent; image absent; audio absent",
        "text absent; audio absent; row unreadable: column 'text' has bytes that are "
        "not UTF-8",
        "image unreadable; audio unreadable",
        "text absent; image absent; audio absent; row unreadable: 2 cells where the "
        "header has 3",
    ]
    for row in found:
        assert row["label"] == "" and row["predicted"] in ("red", "green")
        assert float(row["green"]) + float(row["red"]) == pytest.approx(1, abs=2e-6)
    assert found[2]["score"] == found[5]["score"]  # nothing was there in either


def test_a_missing_column_is_said_once_and_absent_in_every_row(run, tmp_path, capsys):
    table = table_factory.write_table(
        tmp_path / "d.csv", [{"text": "hi"}, {"text": "ho"}]
    )
    predict(run[0], table, tmp_path / "out.csv")
    assert "no column for image, audio: absent in every row" in capsys.readouterr().err
    status = {row["status"] for row in read(tmp_path / "out.csv")}
    assert status == {"image absent; audio absent"}


def test_a_long_table_is_read_a_few_rows_at_a_time(run, tmp_path, monkeypatch):
    """What lies between the rows read and the rows answered is bounded."""
    texts = [{"text": f"word {i}"} for i in range(300)]
    table = table_factory.write_table(tmp_path / "d.csv", texts)
    read_rows, answered, most = [], 0, 0
    iter_rows, answers = tabling.iter_rows, predicting._answers

    def counted_rows(*arguments, **options):
        for row in iter_rows(*arguments, **options):
            read_rows.append(row.id)
            yield row

    def counted_answers(predictor, batch):
        nonlocal answered, most
        most = max(most, len(read_rows) - answered)
        answered += len(batch)
        return answers(predictor, batch)

    monkeypatch.setattr(tabling, "iter_rows", counted_rows)
    monkeypatch.setattr(predicting, "_answers", counted_answers)
    predict(run[0], table, tmp_path / "out.csv")
    assert answered == 300 and most <= 64 + 4 * 2 + 1
    expected = [str(i) for i in range(300)]
    assert [row["id"] for row in read(tmp_path / "out.csv")] == expected


def test_an_error_in_the_middle_leaves_the_old_predictions(run, tmp_path, monkeypatch):
    table = table_factory.write_table(tmp_path / "d.csv", [{"text": "hi"}])
    out = tmp_path / "out.csv"
    out.write_text("old")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(predicting, "_answers", fail)
    with pytest.raises(OSError, match="No space"):
        predict(run[0], table, out)
    assert out.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["d.csv", "out.csv"]


# Refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--output": "no/such/out.csv"}, "must be a file in a folder that exists"),
        ({"--output": "."}, "must be a file in a folder that exists"),
        ({"--output": "data.csv"}, "--output is the table itself"),
        ({"--model": None}, "model"),
        ({"--modle": "x"}, "There is no flag '--modle'. Did you mean '--model'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    changes, message, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "data.csv", [{"text": "hi"}])
    flags = {"--model": str(run[0]), "--data": "data.csv", "--output": "out.csv"}
    flags = {k: v for k, v in {**flags, **changes}.items() if v}
    argv = [word for flag in flags.items() for word in flag]
    monkeypatch.setattr(sys, "argv", ["predict", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out.csv").exists()


def test_a_table_without_any_column_of_the_model_is_refused(run, tmp_path):
    table = table_factory.write_table(tmp_path / "d.csv", [{"words": "hi"}])
    with pytest.raises(UserError, match="has no column 'text' or 'image' or 'audio'"):
        predict(run[0], table, tmp_path / "out.csv")
    assert sorted(os.listdir(tmp_path)) == ["d.csv"]
