import functools
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmkeras import predict
from mmkeras.errors import UserError
from mmkeras.modalities import pretrained
from mmkeras.train import main
from mmkeras.training import run_folder
from tests import table_factory
from tests.program_harness import (
    error_of,
    output_of,
    read_csv,
    resume_command,
    signal_at_checkpoint,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--output", "file.txt"], "--output 'file.txt' is a file; give a folder"),
        (["--output", "."], "nothing is overwritten"),
        (["--epochs", "0"], "epochs=0"),
    ],
)
def test_a_mistake_is_one_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("mine")
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_model_without_network_is_refused_before_the_import_of_tensorflow(
    tmp_path, monkeypatch, capsys
):
    def refuse(setting, source):
        raise UserError(f"{setting}={source} could not be fetched.")

    def fail():
        raise AssertionError("TensorFlow was imported")

    monkeypatch.setattr(pretrained, "find_model", refuse)
    monkeypatch.setattr("mmkeras.train.import_tensorflow", fail)
    table = table_factory.write_table(tmp_path / "rows.csv", table_factory.make_rows())
    argv = ["--data", str(table), "--preset", "pretrained-small"]
    argv += ["--output", str(tmp_path / "run")]
    assert "could not be fetched" in error_of(main, argv, monkeypatch, capsys)


# Complete runs ----------------------------------------------------------------


@pytest.fixture(scope="module")
def complete_run(tmp_path_factory):
    """An uninterrupted run: its folder, its table and its output."""
    folder, table = table_factory.trained_run(tmp_path_factory)
    return folder, table, (folder.parent / "output.txt").read_text()


def train(table, folder, *more):
    return output_of(main, [*table_factory.run_flags(folder, table), *more])


def test_the_last_lines_name_the_results_and_commands(complete_run, tmp_path):
    folder, table, out = complete_run
    predict_line = out.rstrip().split("\n")[-1]
    assert "Metrics on 8 rows" in out
    assert (folder / "report.html").is_file()
    assert (folder / "export" / "1" / "saved_model.pb").is_file()
    start, _, program, *words = shlex.split(predict_line.removeprefix("Predict: "))
    assert (start, program) == ("python", "mmkeras.predict")
    words[words.index("FILE.csv")] = str(table)
    words[-1] = str(tmp_path / "predictions.csv")
    output_of(predict.main, words)
    assert len(read_csv(tmp_path / "predictions.csv")) == 40


def test_a_finished_run_is_reported_and_no_file_changes(complete_run):
    folder, table, out = complete_run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = train(table, folder)
    assert "is finished already; nothing was trained" in again
    assert again.rstrip().split("\n")[-4:] == out.rstrip().split("\n")[-4:]
    with pytest.raises(UserError, match="seed=0, and this one has seed=5"):
        train(table, folder, "--seed", "5")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_killed_run_resumes_to_the_same_metrics(complete_run, tmp_path):
    expected, table, _ = complete_run
    folder = tmp_path / "run"
    argv = table_factory.run_flags(folder, table)
    checkpoint = "phase1-epoch0000[2-5]"
    code, _ = signal_at_checkpoint("train", argv, folder, checkpoint, signal.SIGKILL)
    assert code == -signal.SIGKILL and not (folder / "metrics.json").exists()

    train(table, folder)

    for name in ("metrics.json", "history.json", "predictions.csv"):
        assert (folder / name).read_text() == (expected / name).read_text(), name


@pytest.mark.slow
@pytest.mark.parametrize("limit_kb", [4, 60, 400])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    limit_kb, complete_run, tmp_path
):
    expected, table, _ = complete_run
    folder = tmp_path / "run"
    argv = table_factory.run_flags(folder, table)
    command = [sys.executable, "-m", "mmkeras.train", *argv]
    limit = functools.partial(
        resource.setrlimit, resource.RLIMIT_FSIZE, (limit_kb * 1024,) * 2
    )
    failed = subprocess.run(
        [*command, "--table.cache_dir", tmp_path / "cache"],
        preexec_fn=limit,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("error: ") and "File too large" in line

    train(table, folder, "--table.cache_dir", tmp_path / "cache")

    for name in ("metrics.json", "history.json", "predictions.csv"):
        assert (folder / name).read_text() == (expected / name).read_text(), name


def test_ctrl_c_leaves_a_model_and_prints_how_to_resume(complete_run, tmp_path):
    folder, table = tmp_path / "my run", complete_run[1]
    argv = [*table_factory.run_flags(folder, table), "--epochs", "500"]
    checkpoint = "phase1-epoch0000[2-9]"
    code, err = signal_at_checkpoint("train", argv, folder, checkpoint, signal.SIGINT)
    assert code == 130 and "Traceback" not in err
    assert f"model so far is in {folder / 'model.keras'}" in err
    words = resume_command(err)
    assert words[:3] == ["python", "-m", "mmkeras.train"]
    assert sorted(words[3:]) == sorted(argv)


def test_rows_with_several_labels_are_trained_predicted_and_exported(tmp_path):
    labels = ["a", "b", "c", "a|bright"] * 10
    rows = table_factory.texts(label=labels, text=[x.replace("|", " ") for x in labels])
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache", text={"tokens": "word"})
    run_folder.write_config(tmp_path, config)
    folder = tmp_path / "run"
    train(table, folder, "--train.monitor", "val_auc")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["task"] == "multilabel"
    assert metrics["classes"] == ["a", "b", "bright", "c"]
    for row in read_csv(folder / "predictions.csv"):
        chosen = [c for c in metrics["classes"] if float(row[c]) >= 0.5]
        assert row["predicted"] == "|".join(chosen)
    labels = folder / "export" / "1" / "assets.extra" / "labels.txt"
    assert labels.read_text().split() == metrics["classes"]


@pytest.mark.slow
def test_a_network_of_keras_applications_is_loaded_elsewhere(complete_run, tmp_path):
    _, table, _ = complete_run
    folder = tmp_path / "run"
    train(table, folder, "--image.encoder", "mobilenetv3", "--epochs", "1")
    assert (folder / "export" / "1" / "saved_model.pb").is_file()
    # A new process has not built this network.
    command = [sys.executable, "-m", "mmkeras.predict", "--model", folder]
    command += ["--data", table, "--output", tmp_path / "predictions.csv"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(read_csv(tmp_path / "predictions.csv")) == 40


MIRRORED = """
import sys
from pathlib import Path
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
both = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, both)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

from mmkeras.training import fit, run_folder, steps
from tests import table_factory

base = Path(sys.argv[1])
config = table_factory.tiny_config(base / "cache")
for name, strategy in (("run", mirrored), ("single", tf.distribute.get_strategy())):
    fit.strategy = steps.strategy = lambda: strategy
    with run_folder.locked_folder(base / name):
        steps.train(base / name, config, base / "data.csv")
print("replicas:", mirrored.num_replicas_in_sync)
"""


@pytest.mark.slow
def test_two_devices_train_the_same_model_as_one(tmp_path):
    table_factory.write_table(tmp_path / "data.csv", table_factory.make_rows())
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "replicas: 2" in result.stdout
    assert (tmp_path / "run" / "export" / "1").is_dir()
    paths = [tmp_path / name / "history.json" for name in ("run", "single")]
    mirrored, single = (json.loads(path.read_text()) for path in paths)
    assert len(mirrored) == 2
    for entry, expected in zip(mirrored, single, strict=True):
        assert entry == pytest.approx(expected, abs=1e-4)
