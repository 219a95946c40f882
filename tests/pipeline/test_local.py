import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmkeras import train
from mmkeras.cli import run_program
from mmkeras.config import to_dict
from mmkeras.errors import UserError
from pipeline.local import main
from tests import table_factory
from tests.pipeline.screen import captured_screen

ROOT = Path(__file__).parents[2]


# Mistakes, before TensorFlow is imported ---------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--root is missing"),
        (["--root", "r", "--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--root", "r", "--schema", "gone"], "--schema 'gone' is no file"),
        (["--root", "file.txt"], "--root 'file.txt' is a file; give a folder"),
        (["--root", "s3://b/root"], "--root 's3://b/root' is a URI, and one machine"),
        (["--root", "my [1] root"], "my [1] root' has one of the characters * ? [ \\,"),
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
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert process.stdout.splitlines()[-1] == "set()"


def test_a_table_to_predict_is_checked_before_training(tmp_path, capsys):
    rows = [{"text": f"a {i}", "image": "", "label": "ab"[i % 2]} for i in range(40)]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    other = [{"text": "a", "img": "b.png"}]
    other = table_factory.write_table(tmp_path / "new.csv", other)
    argv = ["--root", tmp_path / "root", "--data", table, "--unlabeled", other]
    argv += ["--preset", "small-concat"]
    with pytest.raises(UserError, match="new.csv lacks the column 'image' that"):
        main([str(word) for word in argv])


# One run: interrupted, killed, finished, then repeated ---------------------------


def command(table, root, *more):
    words = ["--data", table, "--root", root, "--config", table.parent / "config.yaml"]
    return [sys.executable, "-m", "pipeline.local", *map(str, words), *map(str, more)]


def start(argv):
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process, root, pattern):
    """Waits until a file of the root matches while the process runs."""
    deadline = time.monotonic() + 400
    while not any(root.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(argv):
    """Runs the program in this process: (exit code, lines on the screen)."""
    with captured_screen() as lines:
        code = main(argv[3:])
    return code, lines


def endings(lines):
    """Component -> the end of its progress line."""
    lines = [line.partition("] ")[2].split() for line in lines if line.startswith("[")]
    return {name: " ".join(words) for name, *words in lines}


def versions(root):
    return sorted(path.name for path in (root / "serving" / "mmkeras").iterdir())


def predictions(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: np.array(row[5:], float) for row in rows}


def run_folder(root):
    folders = (root / "artifacts" / "Trainer" / "model_run").iterdir()
    return max(folders, key=lambda path: int(path.name))


@pytest.fixture(scope="module")
def argv(tmp_path_factory):
    """Command of a small run, with two wrong test labels and an unlabeled table."""
    folder = tmp_path_factory.mktemp("pipeline")
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[35]["image"] = "", ""
    rows[38]["label"], rows[39]["label"] = rows[39]["label"], rows[38]["label"]
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    config = to_dict(table_factory.tiny_config(folder / "cache", epochs=12))
    (table.parent / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{k: row[k] for k in ("text", "image", "audio")} for row in rows[:5]]
    unlabeled = table_factory.write_table(folder / "new" / "new.csv", rows)
    return command(table, folder / "my root", "--unlabeled", unlabeled)


@pytest.fixture(scope="module")
def root(argv):
    return Path(argv[argv.index("--root") + 1])


@pytest.fixture(scope="module")
def interrupted(argv, root):
    """Exit code and stderr of a run after Ctrl-C in StatisticsGen."""
    process = start(argv)
    wait_for(process, root, "artifacts/StatisticsGen/statistics/*")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


@pytest.fixture(scope="module")
def finished(argv, root, interrupted):
    """Stdout of a run after one that was killed in Trainer."""
    process = start(argv)
    checkpoint = "checkpoints/phase1-epoch000[01][02-9]"  # not the first one
    wait_for(process, root, f"artifacts/Trainer/model_run/*/{checkpoint}")
    process.kill()
    process.communicate()
    code, lines = run(argv)
    assert code == 0, lines
    return lines


def test_ctrl_c_prints_the_component_and_the_command_to_continue(interrupted, argv):
    code, stderr = interrupted
    assert code == 130 and "Traceback" not in stderr
    (line,) = [x for x in stderr.splitlines() if x.startswith("Interrupted in ")]
    assert shlex.split(line.partition(". To go on: ")[2])[3:] == argv[3:]


def test_a_killed_run_continues_from_its_checkpoint(finished, root):
    results = endings(finished)
    assert results["ExampleGen"] == results["Transform"] == "from the cache"
    assert results["Trainer"].endswith(" s")
    logs = (run_folder(root) / "logs").rglob("events*")
    assert len([path for path in logs if "validation" in str(path)]) == 2
    history = json.loads((run_folder(root) / "history.json").read_text())
    assert len(history) == 12


def test_a_run_pushes_a_model_and_prints_all_paths(finished, root):
    (version,) = versions(root)
    assert finished[0].startswith("Columns: ")
    assert finished[1].startswith("Log: ") and len(endings(finished)) == 14
    pushed = root / "serving" / "mmkeras" / version
    assert f"Pushed:  {pushed}" in finished
    for name in ("Serve:", "Lineage:", "Report:", "Media:"):
        assert any(line.startswith(name) for line in finished), name
    assert (pushed / "assets.extra" / "tf_serving_warmup_requests").is_file()
    for name in ("checkpoints", "logs", "report.html", "model.keras"):
        assert (run_folder(root) / name).exists()
    (line,) = [x for x in finished if x.startswith("Predictions: ")]
    assert any(Path(line.removeprefix("Predictions: ")).rglob("*"))


def test_predictions_equal_those_of_the_train_program(finished, argv, root, tmp_path):
    config = str(Path(argv[argv.index("--data") + 1]).parent / "config.yaml")
    train.main([*argv[3:5], "--output", str(tmp_path / "run"), "--config", config])
    result, expected = predictions(run_folder(root)), predictions(tmp_path / "run")
    assert result.keys() == expected.keys() and len(result) == 8
    for row in result:
        np.testing.assert_allclose(result[row], expected[row], atol=1e-5)


def test_the_status_prints_rows_schema_settings_and_metrics(finished, argv, root):
    _, lines = run([*argv[:3], "--root", str(root), "--status"])
    status = {x.partition(":")[0]: x.partition(":")[2].strip() for x in lines}
    assert status["Pushed"].startswith(f"{root}/serving/mmkeras/{versions(root)[0]} ")
    assert status["Table"] == argv[argv.index("--data") + 1]
    assert status["Rows"].startswith("24 train, 8 val, 8 test; content sha256 ")
    assert Path(status["Schema"]).is_file()
    config = Path(status["Config"].split("  ")[0])
    assert yaml.safe_load(config.read_text())["epochs"] == 12
    assert "accuracy" in status["Metrics"] and "on the test rows" in status["Metrics"]
    assert "first blessed model" in status["Compared with"]


def test_a_second_run_on_the_same_data_uses_the_cache(finished, argv, root):
    before = versions(root)
    code, lines = run(argv)
    results = endings(lines)
    for name in ("LastBlessed", "Pusher"):  # their inputs may change outside the run
        assert float(results.pop(name).removesuffix(" s")) < 1
    assert code == 0 and set(results.values()) == {"from the cache"}
    assert versions(root) == before


def test_a_changed_gate_evaluates_again_and_a_rejected_model_is_not_pushed(
    finished, argv, root
):
    before = versions(root)
    code, lines = run([*argv, "--gate.min_accuracy", "1"])
    repeated = {n for n, end in endings(lines).items() if end != "from the cache"}
    assert repeated == {"LastBlessed", "Evaluator", "Pusher", "BulkInferrer"}
    assert code == 1 and versions(root) == before
    reasons = [line for line in lines if line.startswith("Not pushed: ")]
    assert reasons and all("gate.min_accuracy=1" in line for line in reasons)


@pytest.mark.slow
def test_a_full_disk_is_one_line_with_the_file_and_the_component(tmp_path):
    table = table_factory.write_table(tmp_path / "d.csv", table_factory.make_rows())
    words = (
        f"-m pipeline.local --preset small-concat --data {table} --root {tmp_path}/r"
    )
    result = subprocess.run(
        f"ulimit -f 60; {sys.executable} {words}",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1 and f"{tmp_path}/r/metadata.sqlite" in line
    assert "full or faulty" in line and "ExampleGen was running" in line


def test_an_error_names_the_component(tmp_path):
    rows = table_factory.make_rows()
    rows[2]["image"], rows[5]["label"] = "gone.png", ""
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    argv = command(table, tmp_path / "root", "--table.cache_dir", tmp_path / "cache")
    argv = [word for word in argv if not word.endswith("config.yaml")]
    argv.remove("--config")
    argv += ["--preset", "small-concat"]  # which downloads nothing
    with pytest.raises(UserError) as error:
        run(argv)
    first, second, *_ = str(error.value).splitlines()
    assert first == "ExampleGen: 2 of 40 rows cannot be used:"
    assert second == "  line 4 (id r02): image 'gone.png': file not found"
    assert not (tmp_path / "root" / "serving").exists()
