import csv
import json
import shutil

import keras
import numpy as np
import pytest
import yaml

from mmkeras import fit, run, training
from mmkeras.config import to_dict
from mmkeras.data import raw_rows
from mmkeras.errors import UserError
from mmkeras.inference import Predictor, load_trained
from mmkeras.training import fit_model, golden_rows, prepare
from tests import tables


def texts():
    return [
        {
            "split": split,
            "label": "ab"[i % 2],
            "text": f"{'good bad'.split()[i % 2]} {i}",
        }
        for i, split in enumerate(tables.FORTY)
    ]


@pytest.fixture
def table(tmp_path):
    return tables.write_table(tmp_path / "data" / "data.csv", texts())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config_of(folder, **changes):
    return tables.tiny_config(folder.parent / "cache", **changes)


def test_what_was_prepared_is_noted_in_the_folder(folder, table, capsys):
    prepared = prepare(folder, config_of(folder), table)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"] == str(table) and manifest["seed"] == 0
    assert manifest["rows"] == {"train": 24, "val": 8, "test": 8}
    assert manifest["fingerprint"] == prepared.ingested.fingerprint
    assert manifest["split_fingerprint"] and not run.is_finished(folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings == to_dict(prepared.config)
    classes = json.loads((folder / "analysis.json").read_text())["classes"]
    assert classes == ["a", "b"]
    assert not (folder / "rejected.csv").exists()
    assert "24 train, 8 val, 8 test rows; text; 2 classes" in capsys.readouterr().out


def test_a_column_of_vectors_is_in_the_config_and_not_in_what_was_asked(folder, table):
    rows = [{**r, "text": tables.vector([i, 1])} for i, r in enumerate(texts())]
    tables.write_table(table, rows)
    prepared = prepare(folder, config_of(folder), table)
    assert prepared.config.text.encoder == "vector"
    assert run.read_manifest(folder)["settings"]["text"]["encoder"] == "tfidf"
    run.check_same(folder, config_of(folder), str(table))  # so the same command goes on
    assert prepared.analysis.widths == {"text": 2}


def test_rejected_rows_are_written_with_line_id_and_problem(folder, table, capsys):
    rows = texts()
    rows[4]["label"] = ""
    tables.write_table(table, rows)
    prepare(folder, config_of(folder, on_bad_row="reject"), table)
    with (folder / "rejected.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"line": "6", "id": "4", "problem": "label is missing"}
        ]
    assert "Rejected: 1 rows" in capsys.readouterr().out


def test_unreadable_rows_and_warnings_are_said(folder, table, capsys):
    rows = [{**row, "image": ""} for row in texts()]
    rows[2]["image"], rows[9]["image"] = "gone.png", tables.picture()
    rows[34]["image"] = rows[9]["image"]
    tables.write_table(table, rows)
    prepare(folder, config_of(folder, on_bad_row="absent"), table)
    said = capsys.readouterr().out
    assert "Counts as absent: line 4 (id 2): image 'gone.png': file not found" in said
    assert "Warning: The same content stands in different splits" in said


def test_a_table_that_changed_since_the_run_began_is_refused(folder, table):
    prepare(folder, config_of(folder), table)
    rows = texts()
    rows[0]["text"] = "another"
    tables.write_table(table, rows)
    prepare(folder, config_of(folder), table)  # nothing was trained on the old one
    (folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    rows[0]["text"] = "yet another"
    tables.write_table(table, rows)
    with pytest.raises(UserError, match="have changed since the run in .* began"):
        prepare(folder, config_of(folder), table)


def test_a_file_that_settings_name_is_missed_before_rows_are_read(
    folder, table, monkeypatch
):
    monkeypatch.setattr("mmkeras.training.ingest", None)
    image = {"weights": "gone.h5"}
    with pytest.raises(UserError, match="image.weights='gone.h5' is no file"):
        prepare(folder, config_of(folder, image=image), table)


def test_a_loss_of_a_modality_that_the_rows_lack_is_refused(folder, table):
    message = "loss.text_image=0.5 cannot be trained, as the rows have only text. Set"
    with pytest.raises(UserError, match=message):
        prepare(folder, config_of(folder, loss={"text_image": 0.5}), table)
    assert not (folder / "config.yaml").exists()


def test_a_changed_vocabulary_is_refused_and_not_mixed_with_the_old_one(folder, table):
    file = folder.parent / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad"]
    text = {"encoder": "lstm", "tokens": "wordpiece", "vocab_file": str(file)}
    config = config_of(folder, text=text)
    file.write_text("\n".join(pieces))
    prepare(folder, config, table)
    (folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    file.write_text("\n".join([*pieces[:4], "bad", "good"]))
    with pytest.raises(UserError, match="vocabulary has changed since the run"):
        prepare(folder, config, table)


def test_oversampling_of_rows_with_several_labels_is_refused(folder, table):
    rows = [{**row, "label": row["label"] + "|c"} for row in texts()]
    table = tables.write_table(table, rows)
    train = {"oversample": True, "class_weights": "none"}
    with pytest.raises(UserError, match="where rows have several labels"):
        prepare(folder, config_of(folder, train=train), table)


def test_without_a_table_the_embedded_one_is_taken(folder, table, monkeypatch):
    monkeypatch.setattr(training.embedded, "default_folder", lambda: folder.parent)
    monkeypatch.setattr(training.embedded, "make", lambda _: table.parent)
    prepare(folder, config_of(folder), None)
    assert run.read_manifest(folder)["data"] == run.EMBEDDED


def test_golden_rows_are_the_first_test_rows(folder, table):
    prepared = prepare(folder, config_of(folder), table)
    rows = golden_rows(prepared)
    assert [row["text"].decode() for row in rows] == [r["text"] for r in texts()[32:]]
    assert set(rows[0]) == {"text"}


def test_a_model_trained_in_mixed_precision_is_kept_in_float32(folder, table):
    prepared = prepare(
        folder,
        config_of(folder, epochs=1, train={"precision": "mixed_bfloat16"}),
        table,
    )
    trained, history = fit_model(folder, prepared)
    assert len(history) == 1 and keras.config.dtype_policy().name == "float32"
    policies = {
        layer.dtype_policy.name for layer in trained.model.get_layer("head").layers
    }
    assert policies == {"float32"}
    loaded = load_trained(folder)
    for a, b in zip(
        trained.model.get_weights(), loaded.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    head = loaded.model.get_layer("head")
    assert float(head.get_layer("temperature").temperature) not in (0.0, 1.0)


def test_an_interrupted_fit_leaves_a_model_that_loads(folder, table, monkeypatch):
    prepared = prepare(folder, config_of(folder), table)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_model(folder, prepared)
    assert load_trained(folder).analysis.classes == ("a", "b")


# The shared run ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    return tables.trained_run(tmp_path_factory)[0]


def test_a_run_leaves_all_that_it_promises(trained_folder):
    names = {path.name for path in trained_folder.iterdir()}
    assert names - {".lock"} == {
        "config.yaml",
        "analysis.json",
        "model.keras",
        "metrics.json",
        "report.html",
        "predictions.csv",
        "manifest.json",
        "history.json",
        "logs",
        "checkpoints",
        "export",
    }
    assert run.is_finished(trained_folder)
    history = json.loads((trained_folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_lacks_only_its_report_is_not_trained_or_exported_again(
    trained_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(trained_folder, folder)
    (folder / "report.html").unlink()
    table = trained_folder.parent / "data" / "data.csv"
    evaluated = []
    monkeypatch.setattr(training, "evaluate", lambda *a, **k: evaluated.append(a))

    def fail(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(training, "export", fail)
    monkeypatch.setattr(keras.Model, "fit", fail)
    config = tables.tiny_config(
        trained_folder.parent / "cache", epochs=6, on_bad_row="absent"
    )
    training.train(folder, config, table)

    (trained, ingested, split, output), *_ = evaluated
    assert (split, output) == ("test", folder)
    before = load_trained(trained_folder).model.get_weights()
    for a, b in zip(before, trained.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    rows = list(raw_rows(ingested.files("test"), ["text"]).as_numpy_iterator())
    assert len(rows) == 8


@pytest.fixture
def epochs_of(monkeypatch):
    """Names the inputs of each model that is trained, an epoch each."""
    trained = []
    train = fit._train

    def counted(model, batches, val, epochs, callbacks):
        trained.extend([sorted(set(model.input) - {"present"})] * len(epochs))
        train(model, batches, val, epochs, callbacks)

    monkeypatch.setattr(fit, "_train", counted)
    return trained


def test_each_modality_gets_a_model_of_its_own_when_asked(
    folder, epochs_of, monkeypatch
):
    names = ("id", "split", "label", "text", "image")
    rows = [{k: row[k] for k in names} for row in tables.make_rows()]
    for row in rows[::5]:
        row["text"] = ""  # the model of text alone is asked about these, too
    table = tables.write_table(folder.parent / "data" / "data.csv", rows)
    evaluate = {"trained_alone": True, "bootstrap_resamples": 20}
    config = config_of(folder, epochs=1, evaluate=evaluate)

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(training, "evaluate", full)
        training.train(folder, config, table)
    assert epochs_of == [["image", "text"], ["text"], ["image"]]

    training.train(folder, config, table)
    assert len(epochs_of) == 3  # nothing was trained again
    metrics = json.loads((folder / "metrics.json").read_text())
    for m in ("text", "image"):
        alone = load_trained(folder / "alone" / m)
        assert alone.analysis.modalities == (m,)
        served = Predictor(alone)(
            {m: [row[m] if m == "image" else row[m].encode() for row in rows[32:]]}
        )
        right = [
            a.decode() == row["label"]
            for a, row in zip(served["label"], rows[32:], strict=True)
        ]
        found = metrics["modalities"][m]["trained_alone"]["accuracy"]
        assert found["value"] == np.mean(right)
    assert (
        "A model trained on one modality alone" in (folder / "report.html").read_text()
    )


def test_one_modality_has_no_models_beside_it(folder, table, epochs_of):
    config = config_of(folder, epochs=1, evaluate={"trained_alone": True})
    training.train(folder, config, table)
    assert epochs_of == [["text"]] and not (folder / "alone").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "fusion_verdict" not in metrics and "shapley" not in metrics
    assert metrics["noise"]["text"]
