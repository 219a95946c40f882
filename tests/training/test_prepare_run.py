import csv
import json

import pytest
import yaml

from mmkeras.config import to_dict
from mmkeras.data import demo_dataset
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.training import run_folder
from mmkeras.training.prepare_run import prepare_run
from tests import table_factory


@pytest.fixture
def table(tmp_path):
    return table_factory.write_table(
        tmp_path / "data" / "data.csv", table_factory.texts()
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config_of(folder, **changes):
    return table_factory.tiny_config(folder.parent / "cache", **changes)


def test_what_was_prepared_is_noted_in_the_folder(folder, table, capsys):
    run_data = prepare_run(folder, config_of(folder), table)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"] == str(table) and manifest["seed"] == 0
    assert manifest["rows"] == {"train": 24, "val": 8, "test": 8}
    assert manifest["fingerprint"] == run_data.dataset.fingerprint
    assert manifest["split_fingerprint"] and not run_folder.is_finished(folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings == to_dict(run_data.config)
    classes = json.loads((folder / "analysis.json").read_text())["classes"]
    assert classes == ["a", "b"]
    assert not (folder / "rejected.csv").exists()
    assert "24 train, 8 val, 8 test rows; text; 2 classes" in capsys.readouterr().out


def test_a_column_of_vectors_is_in_the_config_and_not_in_what_was_asked(folder, table):
    rows = [
        {**r, "text": table_factory.vector([i, 1])}
        for i, r in enumerate(table_factory.texts())
    ]
    table_factory.write_table(table, rows)
    run_data = prepare_run(folder, config_of(folder), table)
    assert run_data.config.text.encoder == "vector"
    assert run_manifest.read_manifest(folder)["settings"]["text"]["encoder"] == "tfidf"
    run_folder.check_unchanged(
        folder, config_of(folder), str(table)
    )  # so the same command goes on
    assert run_data.state.widths == {"text": 2}


def test_rejected_rows_are_written_with_line_id_and_problem(folder, table, capsys):
    rows = table_factory.texts()
    rows[4]["label"] = ""
    table_factory.write_table(table, rows)
    prepare_run(folder, config_of(folder, on_bad_row="reject"), table)
    with (folder / "rejected.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"line": "6", "id": "4", "problem": "label is missing"}
        ]
    assert "Rejected: 1 rows" in capsys.readouterr().out


def test_unreadable_rows_and_warnings_are_said(folder, table, capsys):
    rows = [{**row, "image": ""} for row in table_factory.texts()]
    rows[2]["image"], rows[9]["image"] = "gone.png", table_factory.picture()
    rows[34]["image"] = rows[9]["image"]
    table_factory.write_table(table, rows)
    prepare_run(folder, config_of(folder, on_bad_row="absent"), table)
    said = capsys.readouterr().out
    assert "Counts as absent: line 4 (id 2): image 'gone.png': file not found" in said
    assert "Warning: The same content stands in different splits" in said


def test_a_table_that_changed_since_the_run_began_is_refused(folder, table):
    prepare_run(folder, config_of(folder), table)
    rows = table_factory.texts()
    rows[0]["text"] = "another"
    table_factory.write_table(table, rows)
    prepare_run(folder, config_of(folder), table)  # nothing was trained on the old one
    (folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    rows[0]["text"] = "yet another"
    table_factory.write_table(table, rows)
    with pytest.raises(UserError, match="have changed since the run in .* began"):
        prepare_run(folder, config_of(folder), table)


def test_a_file_that_settings_name_is_missed_before_rows_are_read(
    folder, table, monkeypatch
):
    monkeypatch.setattr("mmkeras.training.prepare_run.ingest", None)
    image = {"weights": "gone.h5"}
    with pytest.raises(UserError, match="image.weights='gone.h5' is no file"):
        prepare_run(folder, config_of(folder, image=image), table)


def test_a_loss_of_a_modality_that_the_rows_lack_is_refused(folder, table):
    message = "loss.text_image=0.5 cannot be trained, as the rows have only text. Set"
    with pytest.raises(UserError, match=message):
        prepare_run(folder, config_of(folder, loss={"text_image": 0.5}), table)
    assert not (folder / "config.yaml").exists()


def test_a_changed_vocabulary_is_refused_and_not_mixed_with_the_old_one(folder, table):
    file = folder.parent / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad"]
    text = {"encoder": "lstm", "tokens": "wordpiece", "vocab_file": str(file)}
    config = config_of(folder, text=text)
    file.write_text("\n".join(pieces))
    prepare_run(folder, config, table)
    (folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    file.write_text("\n".join([*pieces[:4], "bad", "good"]))
    with pytest.raises(UserError, match="vocabulary has changed since the run"):
        prepare_run(folder, config, table)


def test_oversampling_of_rows_with_several_labels_is_refused(folder, table):
    rows = [{**row, "label": row["label"] + "|c"} for row in table_factory.texts()]
    table = table_factory.write_table(table, rows)
    train = {"oversample": True, "class_weights": "none"}
    with pytest.raises(UserError, match="where rows have several labels"):
        prepare_run(folder, config_of(folder, train=train), table)


def test_without_a_table_the_embedded_one_is_taken(folder, table, monkeypatch):
    monkeypatch.setattr(demo_dataset, "default_folder", lambda: folder.parent)
    monkeypatch.setattr(demo_dataset, "make_dataset", lambda _: table.parent)
    prepare_run(folder, config_of(folder), None)
    assert run_manifest.read_manifest(folder)["data"] == run_folder.EMBEDDED
