import os

import pytest

from mmkeras import predict as program
from mmkeras.data import example_reader
from mmkeras.errors import UserError
from mmkeras.predict import main, predict
from tests import table_factory
from tests.program_harness import cached_model, error_of, output_of, read_csv, to_argv


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = table_factory.trained_run(tmp_path_factory)
    with cached_model(run[0]):
        yield run


def texts_only(texts):
    """Returns rows whose columns of images and audio are empty."""
    return [{"text": text, "image": "", "audio": ""} for text in texts]


def test_the_runs_own_test_rows_get_the_same_predictions_again(run, tmp_path):
    folder, table = run
    path = tmp_path / "out.csv"
    out = output_of(main, ["--model", folder, "--data", table, "--output", path])
    assert out.splitlines() == [
        "40 rows predicted, 1 of them with something unreadable.",
        f"Predictions: {path}",
    ]
    rows = {row["id"]: row for row in read_csv(path)}
    assert list(rows) == [f"r{i:02d}" for i in range(40)]
    for expected in read_csv(folder / "predictions.csv"):
        row = rows[expected["id"]]
        assert list(row) == list(expected)
        for name in ("label", "predicted", "status"):
            assert row[name] == expected[name]
        for name in ("score", "green", "red"):
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=2e-6)


def test_rows_without_label_and_broken_rows_are_predicted_too(run, tmp_path):
    image, tone = table_factory.image, table_factory.tone
    rows = [
        {"text": "warm fire", "image": image(), "audio": tone()},
        {"text": "", "image": "gone.png", "audio": tone(kind="FLAC")},
        {"text": "", "image": "", "audio": ""},
        {"text": "caf\udce9", "image": image(kind="TIFF"), "audio": ""},
        {"text": "hi", "image": b"", "audio": b"RIFF"},
    ]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    with table.open("a") as file:
        file.write("too,few\n")

    assert predict(run[0], table, tmp_path / "out.csv") == (6, 4)

    predictions = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in predictions] == [str(i) for i in range(6)]
    assert [row["status"].partition("; row ")[0] for row in predictions] == [
        "ok",
        "text absent; image unreadable",
        "text absent; image absent; audio absent",
        "text absent; audio absent",
        "image unreadable; audio unreadable",
        "text absent; image absent; audio absent",
    ]
    problems = [row["status"].partition("; row unreadable: ")[2] for row in predictions]
    assert [bool(problem) for problem in problems] == [False] * 3 + [True, False, True]
    assert "'text'" in problems[3] and "UTF-8" in problems[3]
    assert "2 cells" in problems[5] and "3" in problems[5]
    for row in predictions:
        assert row["label"] == "" and row["predicted"] in ("red", "green")
        assert float(row["green"]) + float(row["red"]) == pytest.approx(1, abs=2e-6)
    assert predictions[2]["score"] == predictions[5]["score"]  # both without data


def test_a_missing_column_is_refused_with_those_of_the_table(run, tmp_path):
    rows = [{"text": "hi", "img": "a.png", "audio": ""}]
    table = table_factory.write_table(tmp_path / "d.csv", rows)
    message = "column 'image' that.*are 'text', 'img', 'audio'. Did you mean 'img'"
    with pytest.raises(UserError, match=message):
        predict(run[0], table, tmp_path / "out.csv")
    assert os.listdir(tmp_path) == ["d.csv"]


def test_a_modality_that_no_row_has_is_a_warning(run, tmp_path, capsys):
    table = table_factory.write_table(tmp_path / "d.csv", texts_only(["hi", "ho"]))
    predict(run[0], table, tmp_path / "out.csv")
    warnings = [x for x in capsys.readouterr().err.splitlines() if "Warning" in x]
    assert [("'image'" in x, "'audio'" in x) for x in warnings] == [(1, 0), (0, 1)]
    status = {row["status"] for row in read_csv(tmp_path / "out.csv")}
    assert status == {"image absent; audio absent"}


def test_faulty_files_that_are_read_whole_are_one_warning(run, tmp_path, capsys):
    audio = table_factory.faulty_tone()
    rows = [{"text": "a", "image": table_factory.image(), "audio": audio}] * 4
    table = table_factory.write_table(tmp_path / "d.csv", rows)
    predict(run[0], table, tmp_path / "out.csv")
    (warning,) = (x for x in capsys.readouterr().err.splitlines() if "Warning" in x)
    assert "read whole: line 2: the WAV announces" in warning
    assert "line 3: the WAV" in warning and warning.endswith(", and 2 more.")


def test_a_long_table_is_read_a_few_rows_at_a_time(run, tmp_path, monkeypatch):
    """The number of rows read but not yet predicted is bounded."""
    texts = texts_only(f"word {i}" for i in range(300))
    table = table_factory.write_table(tmp_path / "d.csv", texts)
    read_ids, predicted, maximum = [], 0, 0
    iter_rows, prediction_rows = example_reader.iter_rows, program._prediction_rows

    def counted_rows(*arguments, **options):
        for row in iter_rows(*arguments, **options):
            read_ids.append(row.id)
            yield row

    def counted_predictions(batch, outputs):
        nonlocal predicted, maximum
        maximum = max(maximum, len(read_ids) - predicted)
        predicted += len(batch)
        return prediction_rows(batch, outputs)

    monkeypatch.setattr(example_reader, "iter_rows", counted_rows)
    monkeypatch.setattr(program, "_prediction_rows", counted_predictions)
    predict(run[0], table, tmp_path / "out.csv")
    assert predicted == len(read_ids) == 300 and maximum <= 64 + 4 * 2 + 1
    expected = [str(i) for i in range(300)]
    assert [row["id"] for row in read_csv(tmp_path / "out.csv")] == expected


def test_an_error_during_prediction_leaves_the_old_file(run, tmp_path, monkeypatch):
    table = table_factory.write_table(tmp_path / "d.csv", texts_only(["hi"]))
    path = tmp_path / "out.csv"
    path.write_text("old")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(program, "_prediction_rows", fail)
    with pytest.raises(OSError, match="No space"):
        predict(run[0], table, path)
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["d.csv", "out.csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--output": "no/such/out.csv"}, "must be a file in a folder that exists"),
        ({"--output": "."}, "must be a file in a folder that exists"),
        ({"--output": "data.csv"}, "--output is the table itself"),
        ({"--data": "other.csv"}, "lacks the columns 'text', 'image' and 'audio' that"),
    ],
)
def test_a_mistake_is_one_line(changes, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "data.csv", [{"text": "hi"}])
    table_factory.write_table(tmp_path / "other.csv", [{"words": "hi"}])
    flags = {"--model": run[0], "--data": "data.csv", "--output": "out.csv"}
    argv = to_argv({**flags, **changes})
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "other.csv"]


def test_a_generator_predicts_texts_without_columns_of_classes(
    generator_run, generator_table, tmp_path
):
    output = tmp_path / "out.csv"
    assert predict(generator_run, generator_table, output) == (40, 0)
    rows = read_csv(output)
    expected = read_csv(generator_run / "predictions.csv")
    assert list(rows[0]) == ["id", "label", "predicted", "score", "status"]
    assert list(expected[0]) == list(rows[0])
    by_id = {row["id"]: row for row in rows}
    for row in expected:
        score = float(by_id[row["id"]]["score"])
        assert score == pytest.approx(float(row["score"]), abs=2e-6) and score < 0
        for name in ("label", "predicted", "status"):
            assert by_id[row["id"]][name] == row[name]
    assert rows[0]["label"] == "A red image.|red all over"
    assert rows[0]["predicted"] in ("a red image.", "red all over")


def test_broken_rows_of_a_generator_without_labels_have_a_text(generator_run, tmp_path):
    image = table_factory.image()
    cells = [image, "", "gone.png", image[:60]]
    rows = [{"image": cell} for cell in cells]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    assert predict(generator_run, table, tmp_path / "out.csv") == (4, 2)
    predictions = read_csv(tmp_path / "out.csv")
    expected = ["ok", "image absent", "image unreadable", "image unreadable"]
    assert [row["status"] for row in predictions] == expected
    assert {row["label"] for row in predictions} == {""}
    assert all(row["predicted"] for row in predictions)
    assert len({row["predicted"] for row in predictions[1:]}) == 1
