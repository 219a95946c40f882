import json
from dataclasses import replace

import pytest
import yaml

from mmkeras.config import to_dict
from mmkeras.data import demo_dataset
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.training import prepare_run as prepare
from mmkeras.training import run_folder
from mmkeras.training.prepare_run import prepare_run
from tests import table_factory
from tests.program_harness import read_csv


def start(folder):
    (folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)


def test_rows_settings_and_state_are_written(folder, table, tiny_config, capsys):
    run_data = prepare_run(folder, tiny_config(), table)
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


def test_the_schedule_follows_the_training_rows_and_is_kept(
    folder, table, tiny_config, capsys, monkeypatch
):
    auto = {"batch_size": "auto", "passes": "auto"}
    config = tiny_config(epochs="auto", train=auto)
    run_data = prepare_run(folder, config, table)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    expected = [30, 32, 20]  # 24 rows, 1 step per pass
    train = settings["train"]
    assert [settings["epochs"], train["batch_size"], train["passes"]] == expected
    assert settings == to_dict(run_data.config)
    printed = "batches of 24 rows, 20 per epoch (20 passes over the rows), 30 epochs."
    assert printed in capsys.readouterr().out
    manifest = run_manifest.read_manifest(folder)
    assert manifest["settings"]["epochs"] == "auto"

    start(folder)
    monkeypatch.setattr("mmkeras.config.schedule.BATCH_ROWS", 4)  # another version
    run_folder.check_unchanged(folder, config, str(table))
    assert prepare_run(folder, config, table).config == run_data.config


@pytest.mark.parametrize("first", [5, "auto"])
def test_numbers_and_auto_can_be_mixed_when_a_run_goes_on(
    first, folder, table, tiny_config
):
    config = tiny_config(epochs=first, train={"batch_size": "auto"})
    resolved = prepare_run(folder, config, table).config
    start(folder)
    automatic = replace(config, epochs="auto")
    for again in (config, resolved, automatic):
        run_folder.check_unchanged(folder, again, str(table))
        assert prepare_run(folder, again, table).config == resolved
    assert run_manifest.read_manifest(folder)["settings"] == to_dict(config)
    with pytest.raises(UserError, match=f"epochs={resolved.epochs}, .* epochs=7"):
        run_folder.check_unchanged(folder, replace(config, epochs=7), str(table))


def test_missing_weights_are_known_before_a_row_is_read(
    folder, table, tiny_config, monkeypatch
):
    def refuse(config):
        assert config.image.weights == "none" and list(config.columns) == ["text"]
        raise UserError("no network")

    monkeypatch.setattr(prepare, "fetch_pretrained", refuse)
    monkeypatch.setattr(prepare, "ingest", None)
    with pytest.raises(UserError, match="no network"):
        prepare_run(folder, tiny_config(), table)


def test_detected_vectors_are_in_config_yaml_alone(folder, table, tiny_config):
    rows = [
        {**r, "text": table_factory.vector([i, 1])}
        for i, r in enumerate(table_factory.texts())
    ]
    table_factory.write_table(table, rows)
    run_data = prepare_run(folder, tiny_config(), table)
    entry = {"type": "text", "encoder": "vector", "vector_width": 2}
    assert run_data.config.columns == {"text": entry}
    assert run_data.state.columns["text"]["width"] == 2
    assert run_manifest.read_manifest(folder)["settings"]["columns"] == {}
    assert run_manifest.read_manifest(folder)["settings"]["text"]["encoder"] == "tfidf"
    start(folder)
    for config in (tiny_config(), run_data.config):  # same command, or config.yaml
        run_folder.check_unchanged(folder, config, str(table))
        assert prepare_run(folder, config, table).config == run_data.config


def test_rejected_rows_are_written_with_a_problem(folder, table, tiny_config, capsys):
    rows = table_factory.texts()
    rows[4]["label"] = ""
    table_factory.write_table(table, rows)
    prepare_run(folder, tiny_config(on_bad_row="reject"), table)
    (row,) = read_csv(folder / "rejected.csv")
    assert row == {"line": "6", "id": "r04", "problem": "label is missing"}
    assert "Rejected: 1 rows" in capsys.readouterr().out


def test_unreadable_rows_and_warnings_are_printed(folder, table, tiny_config, capsys):
    rows = [{**row, "image": ""} for row in table_factory.texts()]
    rows[2]["image"], rows[9]["image"] = "gone.png", table_factory.image()
    rows[34]["image"] = rows[9]["image"]
    table_factory.write_table(table, rows)
    prepare_run(folder, tiny_config(on_bad_row="absent"), table)
    out = capsys.readouterr().out
    assert "Counts as absent: line 4 (id r02): image 'gone.png'" in out
    assert "Warning: The same content is in different splits" in out
    (row,) = read_csv(folder / "warnings.csv")
    assert (row["line"], row["id"]) == ("36", "r34")
    assert row["problem"] == "image of line 11 (train) and of line 36 (test)"


def test_a_vocabulary_without_tokens_is_warned_of(folder, table, tiny_config, capsys):
    rows = [{**row, "text": f"word{i}"} for i, row in enumerate(table_factory.texts())]
    table_factory.write_table(table, rows)
    run_data = prepare_run(folder, tiny_config(text={"min_rows": 2}), table)
    (warning,) = run_data.dataset.warnings
    assert "'text'" in warning and "text.min_rows=2" in warning
    assert f"Warning: {warning}" in capsys.readouterr().out
    assert not (folder / "warnings.csv").exists()


def test_a_table_changed_after_an_epoch_is_refused(folder, table, tiny_config):
    rows = table_factory.texts()
    for text, has_started in [("one", False), ("two", False), ("three", True)]:
        rows[0]["text"] = text
        table_factory.write_table(table, rows)
        if not has_started:
            prepare_run(folder, tiny_config(), table)
    start(folder)
    with pytest.raises(UserError, match="changed since the run in .*--output"):
        prepare_run(folder, tiny_config(), table)


def test_a_vocabulary_changed_after_an_epoch_is_refused(folder, table, tiny_config):
    file = folder.parent / "vocab.txt"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad"]
    text = {"encoder": "lstm", "tokens": "wordpiece", "vocab_file": str(file)}
    file.write_text("\n".join(tokens))
    prepare_run(folder, tiny_config(text=text), table)
    start(folder)
    file.write_text("\n".join([*tokens[:4], "bad", "good"]))
    with pytest.raises(UserError, match="vocabulary .*changed since.*--output"):
        prepare_run(folder, tiny_config(text=text), table)


def text_generator(tiny_config, **settings):
    return tiny_config(
        task="generate", fusion={"kind": "concat"}, generate={"width": 16, **settings}
    )


def test_a_vocabulary_of_the_label_changed_after_an_epoch_is_refused(
    folder, table, tiny_config
):
    file = folder.parent / "words.txt"
    file.write_text("a\nb\n")
    config = text_generator(tiny_config, vocab_file=str(file))
    prepare_run(folder, config, table)
    start(folder)
    prepare_run(folder, config, table)
    file.write_text("b\na\n")
    with pytest.raises(UserError, match="vocabulary of the label .*changed since"):
        prepare_run(folder, config, table)


@pytest.mark.parametrize(("limit", "is_warned"), [(2, True), (3, False)])
def test_training_texts_longer_than_the_limit_are_warned_of(
    limit, is_warned, folder, table, tiny_config, capsys
):
    rows = table_factory.texts()
    rows[0]["label"] = "a b c"
    table_factory.write_table(table, rows)
    prepare_run(folder, text_generator(tiny_config, max_tokens=limit), table)
    warning = (
        "Warning: The longest training text has 3 tokens. Texts are cut after "
        f"generate.max_tokens={limit},"
    )
    assert (warning in capsys.readouterr().out) == is_warned


@pytest.mark.parametrize(("size", "is_warned"), [(1, True), (50, False)])
def test_words_of_training_texts_without_a_place_in_the_vocabulary_are_warned_of(
    size, is_warned, folder, table, tiny_config, capsys
):
    table_factory.write_table(table, table_factory.texts())
    prepare_run(folder, text_generator(tiny_config, vocab_size=size), table)
    warning = "of the tokens of the training texts are not among the 1 of the vocab"
    assert (warning in capsys.readouterr().out) == is_warned


def test_a_missing_file_is_refused_first(folder, table, tiny_config, monkeypatch):
    monkeypatch.setattr("mmkeras.training.prepare_run.ingest", None)
    config = tiny_config(image={"weights": "gone.h5"})
    with pytest.raises(UserError, match="image.weights='gone.h5' is no file"):
        prepare_run(folder, config, table)


def test_a_loss_of_a_modality_that_the_rows_lack_is_refused(folder, table, tiny_config):
    with pytest.raises(UserError, match="loss.text_image=0.5 .* only text. Set it 0"):
        prepare_run(folder, tiny_config(loss={"text_image": 0.5}), table)
    assert not (folder / "config.yaml").exists()


def test_oversampling_rows_with_several_labels_is_refused(folder, table, tiny_config):
    rows = [{**row, "label": row["label"] + "|c"} for row in table_factory.texts()]
    table_factory.write_table(table, rows)
    train = {"oversample": True, "class_weights": "none"}
    with pytest.raises(UserError, match="train.oversample=True .*several labels"):
        prepare_run(folder, tiny_config(train=train), table)


def test_the_demo_table_is_the_default(folder, table, tiny_config, monkeypatch):
    monkeypatch.setattr(demo_dataset, "default_folder", lambda: folder.parent)
    monkeypatch.setattr(demo_dataset, "make_dataset", lambda _: table.parent)
    prepare_run(folder, tiny_config(), None)
    assert run_manifest.read_manifest(folder)["data"] == run_folder.DEMO_DATA
