import pytest
import tensorflow as tf

from mmkeras import prove as program
from mmkeras.config import Config
from mmkeras.errors import UserError
from mmkeras.export.verification import rows_to_examples
from mmkeras.modalities.columns import build_columns
from tests import table_factory
from tests.program_harness import output_of, to_argv


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Forty rows with text, every second one with image and audio."""
    path = tmp_path_factory.mktemp("prove") / "rows.tfrecord"
    full = {"image": [table_factory.image()], "audio": [table_factory.tone()]}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(40):
            row = {"text": [b"warm fire %d" % i]} | (full if i % 2 else {})
            columns = {c.name: c for c in build_columns(Config()) if c.name in row}
            writer.write(rows_to_examples(row, columns)[0])
    return path


def arguments(model, run, rows):
    return to_argv({"--model": model, "--run": run, "--rows": rows})


def test_an_export_is_verified_on_all_rows(run, rows):
    out = output_of(program.main, arguments(run / "export" / "1", run, rows))
    # Ten golden batches; rows: 4 + 6 + 1, all of these mixed, and the forty.
    head, difference = out.rsplit(" ", 1)
    assert head == "Proved: 12 batches, 62 rows, largest difference"
    assert 0 <= float(difference.strip(".\n")) < 1e-5


def test_each_row_is_in_a_batch_and_the_first_256_are_read(run, rows, monkeypatch):
    batches = {}

    def verify(path, trained_model, content, tolerance):
        batches.update(content)
        return 0.0

    monkeypatch.setattr("mmkeras.export.verification.verify_export", verify)
    monkeypatch.setattr(program, "MAX_ROWS", 35)
    program.prove_export(run / "export" / "1", run, rows)
    texts = [*batches["rows 1 to 32"]["text"], *batches["rows 33 to 35"]["text"]]
    assert texts == [b"warm fire %d" % i for i in range(35)]
    assert batches["rows 33 to 35"]["image"] == [b"", table_factory.image(), b""]
    assert {"complete", "text broken", "all absent", "mixed", "empty"} < set(batches)


def test_a_missing_export_run_or_file_is_named(run, rows, tmp_path):
    export = run / "export" / "1"
    for paths, message in (
        ((tmp_path, run, rows), "--model .* holds no saved_model.pb"),
        ((export, tmp_path, rows), "holds no config.yaml"),
        ((export, run, tmp_path / "none"), "--rows .* is no file"),
    ):
        with pytest.raises(UserError, match=message):
            program.main(arguments(*paths))


def test_an_export_of_a_generator_is_verified(generator_run, tmp_path):
    """Its texts are compared too."""
    path = tmp_path / "rows.tfrecord"
    columns = {c.name: c for c in build_columns(Config()) if c.name == "image"}
    images = [table_factory.image(), table_factory.image((30, 200, 60))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in rows_to_examples({"image": images}, columns):
            writer.write(example)
    export = generator_run / "export" / "1"
    out = output_of(program.main, arguments(export, generator_run, path))
    assert out.startswith("Proved: 7 batches") and float(out[:-2].split()[-1]) < 1e-5
