import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmkeras.cli import run_program
from mmkeras.config import to_dict
from pipeline.local import main
from tests import table_factory

ROOT = Path(__file__).parents[2]
e2e = pytest.mark.e2e


# Refusals, before anything heavy is imported ------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--root is missing"),
        (["--root", "r", "--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--root", "r", "--schema", "gone"], "--schema 'gone' is no file"),
        (["--root", "file.txt"], "--root 'file.txt' is a file; give a folder"),
        (["--root", "s3://b/root"], "--root 's3://b/root' is a URI, and one machine"),
        (["--root", "."], "holds no pipeline; give a new folder"),
        (["--root", "r", "--status"], "--root 'r' holds no pipeline run"),
        (["--root", "r", "--image.weights", "a.h5"], "image.weights='a.h5' is no file"),
        (["--rot", "r"], "There is no flag '--rot'. Did you mean '--root'?"),
        (["--root", "r", "--gate.min_acuracy", "1"], "'--gate.min_accuracy'?"),
        (["--root", "r", "--gate.min_accuracy", "2"], "gate.min_accuracy=2.0 is not"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["local", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_help_loads_neither_tensorflow_nor_tfx():
    code = """
import sys
from pipeline.local import main
try:
    main(["--help"])
except SystemExit:
    pass
print({"tensorflow", "tfx", "apache_beam"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


# Whole runs -------------------------------------------------------------------


def command(table, root, *more):
    words = ["--data", table, "--root", root, "--config", table.parent / "config.yaml"]
    return [sys.executable, "-m", "pipeline.local", *map(str, words), *map(str, more)]


def run(table, root, *more, code=0):
    done = subprocess.run(
        command(table, root, *more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    logs = sorted((root / "logs").glob("*.log"))
    tail = logs[-1].read_text()[-3000:] if logs else ""
    assert done.returncode == code, done.stdout + done.stderr + tail
    return done


def write(base, rows):
    """A table, with the settings of a tiny run beside it."""
    table = table_factory.write_table(base / "data.csv", rows)
    config = to_dict(table_factory.tiny_config(base / "cache", epochs=6))
    (base / "config.yaml").write_text(yaml.safe_dump(config))
    return table


def took(done):
    """Component -> its progress line's end."""
    lines = [x for x in done.stdout.splitlines() if x.startswith("[")]
    return {
        line.split("]")[1].split()[0]: " ".join(line.split("]")[1].split()[1:])
        for line in lines
    }


def versions(root):
    folder = root / "serving" / "mmkeras"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def predictions(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: np.array(row[5:], float) for row in rows}


def newest(folder):
    return max(folder.iterdir(), key=lambda path: int(path.name))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[35]["image"] = "", ""
    return write(tmp_path_factory.mktemp("table"), rows)


@pytest.fixture(scope="module")
def first(table, tmp_path_factory):
    """A whole run: its root, and what it printed."""
    root = tmp_path_factory.mktemp("pipeline") / "root"
    return root, run(table, root)


@e2e
def test_a_run_pushes_a_model_and_says_where_everything_is(first):
    root, done = first
    (version,) = versions(root)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Log: ") and done.stderr == ""
    assert f"Pushed:  {root}/serving/mmkeras/{version}" in lines
    assert len(took(done)) == 12
    for name in ("Serve:", "Lineage:", "Report:", "Media:"):
        assert any(line.startswith(name) for line in lines), name
    pushed = root / "serving" / "mmkeras" / version
    assert (pushed / "assets.extra" / "tf_serving_warmup_requests").is_file()
    for name in ("checkpoints", "logs", "report.html", "model.keras"):
        assert (newest(root / "artifacts" / "Trainer" / "model_run") / name).exists()


@e2e
def test_the_pipelines_model_answers_as_the_plain_programs_does(first, table, tmp_path):
    root, _ = first
    words = ["--data", table, "--output", tmp_path / "run"]
    words += ["--config", table.parent / "config.yaml"]
    command = [sys.executable, "-m", "mmkeras.train", *map(str, words)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    piped = newest(root / "artifacts" / "Trainer" / "model_run")
    ours, plain = predictions(piped), predictions(tmp_path / "run")
    assert ours.keys() == plain.keys() and len(ours) == 8
    for row in ours:
        np.testing.assert_allclose(ours[row], plain[row], atol=1e-5)


@e2e
def test_the_pushed_version_answers_raw_bytes_as_the_training_model_does(first):
    from mmkeras.export.saved_model_session import loaded

    root, _ = first
    (version,) = versions(root)
    rows = table_factory.make_rows()[32:35]
    data = {
        m: [r[m].encode() if m == "text" else r[m] for r in rows]
        for m in ("text", "image", "audio")
    }
    with loaded(root / "serving" / "mmkeras" / version) as call:
        answers = call("serving_default", data)
    expected = predictions(newest(root / "artifacts" / "Trainer" / "model_run"))
    for i, row in enumerate(rows):
        np.testing.assert_allclose(
            answers["probabilities"][i], expected[row["id"]], atol=2e-6
        )


@e2e
def test_the_status_tells_rows_schema_settings_and_metrics(first, table):
    root, _ = first
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.local", "--root", str(root), "--status"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split(":", 1) for line in done.stdout.splitlines())
    found = {name: value.strip() for name, value in found.items()}
    assert found["Pushed"].startswith(f"{root}/serving/mmkeras/{versions(root)[0]} ")
    assert found["Table"] == str(table.resolve())
    assert found["Rows"].startswith("24 train, 8 val, 8 test; content sha256 ")
    assert Path(found["Schema"]).is_file()
    config = Path(found["Config"].split("  ")[0])
    assert yaml.safe_load(config.read_text())["epochs"] == 6
    assert "accuracy" in found["Metrics"] and "on the test rows" in found["Metrics"]
    assert found["Compared with"] == "nothing, the first blessed model"


@e2e
def test_a_second_run_on_the_same_data_is_answered_from_the_cache(first, table):
    root, _ = first
    before = versions(root)
    done = run(table, root)
    ends = took(done)
    for name in ("LastBlessed", "Pusher"):  # these look what is there, and do nothing
        assert float(ends.pop(name).removesuffix(" s")) < 1
    assert set(ends.values()) == {"from the cache"}
    assert versions(root) == before


@e2e
def test_a_changed_setting_runs_anew_what_depends_on_it(first, table):
    root, _ = first
    gated = took(run(table, root, "--gate.max_drop", "0.5"))
    again = {name for name, end in gated.items() if end != "from the cache"}
    assert again == {"LastBlessed", "Evaluator", "Pusher"}
    before = versions(root)
    done = run(table, root, "--epochs", "7", "--gate.max_drop", "1")
    again = {name for name, end in took(done).items() if end != "from the cache"}
    assert again == {
        "Trainer",
        "LastBlessed",
        "Evaluator",
        "InfraValidator",
        "Pusher",
    }
    assert len(versions(root)) == len(before) + 1


@e2e
def test_a_model_below_the_threshold_is_not_pushed(table, first):
    root, _ = first
    before = versions(root)
    more = ("--epochs", "1", "--gate.min_accuracy", "1", "--gate.max_drop", "1")
    done = run(table, root, *more, "--train.learning_rate", "1e-6", code=1)
    assert "Not pushed: accuracy" in done.stdout
    assert "gate.min_accuracy=1" in done.stdout
    assert versions(root) == before


@e2e
def test_a_model_worse_than_the_last_blessed_one_is_not_pushed(table, first):
    root, _ = first
    before = versions(root)
    more = ("--epochs", "1", "--train.learning_rate", "1e-6", "--gate.max_drop", "0.01")
    done = run(table, root, *more, code=1)
    assert "Not pushed: " in done.stdout and "gate.max_drop=0.01" in done.stdout
    assert versions(root) == before


@e2e
def test_a_corrupt_table_ends_in_the_plain_programs_words(tmp_path):
    rows = table_factory.make_rows()
    rows[2]["image"], rows[5]["label"] = "gone.png", ""
    table = write(tmp_path / "data", rows)
    done = run(table, tmp_path / "root", code=2)
    first, *lines = done.stderr.splitlines()
    assert first == "error: ExampleGen: 2 of 40 rows cannot be used:"
    assert lines[0] == "  line 4 (id r02): image 'gone.png': file not found"
    assert versions(tmp_path / "root") == [] and "Traceback" not in done.stderr


@e2e
def test_rows_that_have_drifted_stop_the_run_and_are_named(first, tmp_path):
    root, _ = first
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    for row in rows[::2]:
        row["image"] = ""
    before = versions(root)
    done = run(write(tmp_path / "drifted", rows), root, code=2)
    assert "error: DataGate: The data do not pass" in done.stderr
    assert "label in train: values that the schema does not list: blue" in done.stderr
    assert "image in train: too often absent: in 50 % of the rows" in done.stderr
    assert versions(root) == before


@e2e
def test_a_run_killed_in_the_trainer_goes_on_from_its_checkpoint(
    table, first, tmp_path
):
    root = tmp_path / "root"
    process = subprocess.Popen(
        command(table, root),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 400
    while not any(root.glob("artifacts/Trainer/model_run/*/checkpoints/*epoch00002")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    done = run(table, root)

    ends = took(done)
    assert ends["ExampleGen"] == ends["Transform"] == "from the cache"
    runs = root / "artifacts" / "Trainer" / "model_run"
    folder, whole = newest(runs), newest(first[0] / "artifacts/Trainer/model_run")
    started = [e for e in (folder / "logs").rglob("events*") if "validation" in str(e)]
    assert len(started) == 2  # one by each process: the second one went on
    history = json.loads((folder / "history.json").read_text())
    assert len(history) == 6
    assert predictions(folder).keys() == predictions(whole).keys()


@e2e
def test_an_unlabeled_table_is_answered_by_the_blessed_model(first, table, tmp_path):
    root, _ = first
    rows = [
        {k: r[k] for k in ("text", "image", "audio")} for r in table_factory.make_rows()
    ]
    unlabeled = table_factory.write_table(tmp_path / "new" / "new.csv", rows[:5])
    done = run(table, root, "--unlabeled", unlabeled, "--gate.max_drop", "0.5")
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("Answers: ")]
    assert any(Path(line.removeprefix("Answers: ")).rglob("*"))


@e2e
def test_a_tuned_run_trains_with_what_the_best_trial_had(table, first):
    root, _ = first
    more = ("--tune.trials", "2", "--tune.epochs", "1", "--tune.widths", "4,16")
    done = run(table, root, *more, "--gate.max_drop", "1")
    assert took(done)["Transform"] == "from the cache" and "Tuner" in took(done)
    (best,) = newest(root / "artifacts/Tuner/best_hyperparameters").iterdir()
    values = json.loads(best.read_text())["values"]
    settings = newest(root / "artifacts/Trainer/model_run") / "config.yaml"
    settings = yaml.safe_load(settings.read_text())
    assert settings["fusion"]["units"] == values["fusion_units"]
    assert settings["train"]["learning_rate"] == values["learning_rate"]


@e2e
def test_ctrl_c_says_where_it_was_and_how_to_go_on(table, tmp_path):
    root = tmp_path / "my root"
    process = subprocess.Popen(
        command(table, root),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(root.glob("artifacts/StatisticsGen/statistics/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    (line,) = [x for x in err.splitlines() if x.startswith("Interrupted in ")]
    again = line.partition(". To go on: ")[2]
    assert shlex.split(again)[3:] == command(table, root)[3:]
