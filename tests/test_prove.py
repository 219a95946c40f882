import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from mmkeras import prove as program
from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export.inference import load_trained
from mmkeras.export.verification import rows_to_examples
from tests import table_factory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Forty rows; text is in each, the others are in every second."""
    path = tmp_path_factory.mktemp("prove") / "rows.tfrecord"
    full = {"image": [table_factory.image()], "audio": [table_factory.tone()]}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(40):
            row = {"text": [b"warm fire %d" % i]} | (full if i % 2 else {})
            writer.write(rows_to_examples(row)[0])
    return path


def arguments(model, run, rows):
    return ["--model", str(model), "--run", str(run), "--rows", str(rows)]


@pytest.mark.e2e
def test_an_export_is_proved_on_all_rows_in_another_process(run, rows):
    done = subprocess.run(
        [sys.executable, "-m", "mmkeras.prove"]
        + arguments(run / "export" / "1", run, rows),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Of golden batches ten; and of rows 4 + 6 + 1, all of these mixed, and the forty.
    head, difference = done.stdout.rsplit(" ", 1)
    assert head == "Proved: 12 batches, 62 rows, largest difference"
    assert 0 <= float(difference.strip(".\n")) < 1e-5
    assert done.stderr == ""


def test_each_row_is_in_a_batch_and_the_first_256_are_taken(run, rows, monkeypatch):
    seen = {}

    def prove(path, trained_model, batches, tolerance):
        seen.update(batches)
        return 0.0

    monkeypatch.setattr("mmkeras.export.verification.verify_export", prove)
    monkeypatch.setattr(program, "MOST_ROWS", 35)
    program.prove_export(run / "export" / "1", run, rows)
    texts = [seen["rows 1 to 32"]["text"], seen["rows 33 to 35"]["text"]]
    assert sum(texts, []) == [b"warm fire %d" % i for i in range(35)]
    assert seen["rows 33 to 35"]["image"] == [b"", table_factory.image(), b""]
    assert {"complete", "text broken", "all absent", "mixed", "empty"} < set(seen)


@pytest.mark.e2e
def test_the_export_of_another_model_is_not_proved(run, rows, tmp_path):
    other = tmp_path / "run"
    ignored = shutil.ignore_patterns("export", "checkpoints", "logs")
    shutil.copytree(run, other, ignore=ignored)
    trained_model = load_trained(other)
    bias = trained_model.model.get_layer("head").get_layer("logits").weights[1]
    bias.assign_add([0.01] * bias.shape[0])
    trained_model.model.save(other / "model.keras")
    with pytest.raises(
        ExportMismatchError, match="probabilities differs from the model by"
    ):
        program.main(arguments(run / "export" / "1", other, rows))


def test_what_is_no_export_no_run_and_no_file_is_said(run, rows, tmp_path):
    export = run / "export" / "1"
    for given, message in (
        ((tmp_path, run, rows), "--model .* holds no saved_model.pb"),
        ((export, tmp_path, rows), "holds no config.yaml"),
        ((export, run, tmp_path / "none"), "--rows .* is no file"),
    ):
        with pytest.raises(UserError, match=message):
            program.main(arguments(*given))
