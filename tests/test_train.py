import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkeras.cli import run_program
from mmkeras.train import main
from tests import table_factory

ROOT = Path(__file__).parents[1]
e2e = pytest.mark.e2e


# Refusals, before anything heavy is imported ------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--output", "file.txt"], "--output 'file.txt' is a file; give a folder"),
        (["--output", "."], "holds no run of mmkeras; nothing is overwritten"),
        (["--epochs", "0"], "epochs=0 is not possible"),
        (["--epohcs", "3"], "There is no flag '--epohcs'. Did you mean '--epochs'?"),
        (["--preset", "small"], "There is no preset 'small'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["train", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


# Whole runs -------------------------------------------------------------------


def command(table, output, *more):
    settings = {
        "--data": table,
        "--output": output,
        "--preset": "small-concat",
        "--epochs": 6,
        "--image.size_px": 32,
        "--image.width": 2,
        "--audio.clip_s": 0.5,
        "--train.batch_size": 8,
        "--train.learning_rate": 0.01,
        "--train.ema": 0.8,
        "--augment.flip": "true",
        "--augment.crop": 0.1,
        "--augment.word_dropout": 0.1,
        "--augment.spec_frames": 0.1,
        "--evaluate.bootstrap_resamples": 20,
        "--table.cache_dir": table.parent / "cache",
    }
    words = [str(word) for flag in settings.items() for word in flag]
    return [sys.executable, "-m", "mmkeras.train", *words, *more]


def train(*arguments, check=True):
    done = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def stopped(arguments, after, how):
    """Starts training, sends the signal once the checkpoint is there, and waits."""
    output = arguments[1]
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    try:
        while not any((output / "checkpoints").glob(after)):
            assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    base = tmp_path_factory.mktemp("train data")
    return table_factory.write_table(base / "data.csv", table_factory.make_rows())


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """An uninterrupted run: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(table, folder)


@e2e
def test_the_last_lines_name_report_export_serve_and_predict(whole):
    folder, done = whole
    *_, report, export, serve, predict = done.stdout.rstrip().split("\n")
    assert report == f"Report:  {folder / 'report.html'}"
    assert export == f"Export:  {folder / 'export' / '1'}"
    assert serve.startswith("Serve:   docker run ") and f"{folder / 'export'}:" in serve
    assert predict.startswith(f"Predict: python -m mmkeras.predict --model {folder} ")
    assert "Metrics on 8 rows" in done.stdout and "Traceback" not in done.stderr
    assert (folder / "report.html").is_file()
    assert (folder / "export" / "1" / "saved_model.pb").is_file()


@e2e
def test_the_predict_command_that_was_printed_works(whole, table, tmp_path):
    folder, done = whole
    (line,) = [x for x in done.stdout.split("\n") if x.startswith("Predict: ")]
    words = shlex.split(line.removeprefix("Predict: "))
    words[words.index("FILE.csv")] = str(table)
    words[0], words[-1] = sys.executable, str(tmp_path / "predictions.csv")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 40


@e2e
def test_a_finished_run_is_said_so_and_no_file_changes(whole, table):
    folder, first = whole
    before = contents(folder)
    again = train(table, folder)
    assert contents(folder) == before
    assert "is finished already; nothing was trained" in again.stdout
    assert (
        again.stdout.rstrip().split("\n")[-4:] == first.stdout.rstrip().split("\n")[-4:]
    )


@e2e
def test_a_finished_run_with_another_setting_is_refused(whole, table):
    folder, _ = whole
    before = contents(folder)
    done = train(table, folder, "--seed", "5", check=False)
    assert done.returncode == 2 and contents(folder) == before
    (line,) = done.stderr.splitlines()
    assert "seed=0, and this one has seed=5" in line


@e2e
def test_a_killed_run_goes_on_and_ends_with_the_same_metrics(whole, table, tmp_path):
    folder = tmp_path / "run"
    code, _, _ = stopped((table, folder), "phase1-epoch0000[2-5]", signal.SIGKILL)
    assert code == -signal.SIGKILL and not (folder / "metrics.json").exists()

    train(table, folder)

    uninterrupted, _ = whole
    for name in ("metrics.json", "history.json", "predictions.csv"):
        assert (folder / name).read_text() == (uninterrupted / name).read_text(), name


@e2e
def test_ctrl_c_leaves_a_model_that_loads_and_says_where(table, tmp_path):
    folder = tmp_path / "my run"
    arguments = (table, folder, "--epochs", "500")
    code, _, err = stopped(arguments, "phase1-epoch0000[2-9]", signal.SIGINT)
    assert code == 130 and "Traceback" not in err
    assert f"model so far is in {folder / 'model.keras'}" in err
    (line,) = [x for x in err.splitlines() if x.startswith("To go on: ")]
    again = shlex.split(line.removeprefix("To go on: "))
    assert again[:3] == ["python", "-m", "mmkeras.train"]
    assert sorted(again[3:]) == sorted(command(*arguments)[3:])
    load = (
        "import sys, keras, mmkeras.models.model; keras.models.load_model(sys.argv[1])"
    )
    load = [sys.executable, "-c", load, folder / "model.keras"]
    subprocess.run(load, cwd=ROOT, check=True, capture_output=True)


@e2e
def test_rejected_rows_are_written_and_the_text_alone_is_learned(tmp_path):
    rows = [{k: r[k] for k in ("text", "label")} for r in table_factory.make_rows()]
    rows[7]["label"] = ""
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    done = train(table, tmp_path / "run", check=False)
    assert done.returncode == 2 and "line 9 (id 7): label is missing" in done.stderr

    train(table, tmp_path / "other", "--on-bad-row", "reject")

    with (tmp_path / "other" / "rejected.csv").open(newline="") as file:
        assert [(r["line"], r["id"]) for r in csv.DictReader(file)] == [("9", "7")]
    metrics = json.loads((tmp_path / "other" / "metrics.json").read_text())
    assert list(metrics["modalities"]) == ["text"] and metrics["rejected_rows"] == 1


@e2e
def test_rows_with_several_labels_are_trained_predicted_and_exported(tmp_path):
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    for row in rows[::4]:
        row["label"] += "|bright"
        row["text"] += " bright"
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    folder = tmp_path / "run"
    train(table, folder, "--train.monitor", "val_auc")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["task"] == "multilabel"
    assert metrics["classes"] == ["blue", "bright", "green", "red"]
    with (folder / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            chosen = [c for c in metrics["classes"] if float(row[c]) >= 0.5]
            assert row["predicted"] == "|".join(chosen)
    labels = folder / "export" / "1" / "assets.extra" / "labels.txt"
    assert labels.read_text().split() == metrics["classes"]


@e2e
def test_a_network_of_keras_applications_is_trained_exported_and_read_again(
    table, tmp_path
):
    folder = tmp_path / "run"
    train(table, folder, "--image.encoder", "mobilenetv3", "--epochs", "1")
    assert (folder / "export" / "1" / "saved_model.pb").is_file()
    # A process of its own, which has built no such network.
    predict = [sys.executable, "-m", "mmkeras.predict", "--model", folder]
    predict += ["--data", table, "--output", tmp_path / "predictions.csv"]
    subprocess.run(predict, cwd=ROOT, check=True, capture_output=True)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 40


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

fit.strategy = steps.strategy = lambda: mirrored
base = Path(sys.argv[1])
config = table_factory.tiny_config(base / "cache")
with run_folder.locked_folder(base / "run"):
    steps.train(base / "run", config, base / "data.csv")
print("replicas:", mirrored.num_replicas_in_sync)
fit.strategy = steps.strategy = tf.distribute.get_strategy
with run_folder.locked_folder(base / "alone"):
    steps.train(base / "alone", config, base / "data.csv")
"""


@e2e
def test_two_devices_train_one_model_together(tmp_path):
    table_factory.write_table(tmp_path / "data.csv", table_factory.make_rows())
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "replicas: 2" in done.stdout
    assert (tmp_path / "run" / "export" / "1").is_dir()
    histories = [tmp_path / name / "history.json" for name in ("run", "alone")]
    together, alone = (json.loads(path.read_text()) for path in histories)
    assert len(together) == 2
    for entry, like in zip(together, alone, strict=True):
        assert entry == pytest.approx(like, abs=1e-4)
