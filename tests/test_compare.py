import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkeras.compare import main
from mmkeras.experiments import comparison_run as contests
from tests import table_factory
from tests.fake_training import Trainer

ROOT = Path(__file__).parents[1]


def texts(rows):
    return [{k: row[k] for k in ("id", "split", "label", "text")} for row in rows]


@pytest.fixture
def table(tmp_path):
    return table_factory.write_table(
        tmp_path / "data" / "data.csv", texts(table_factory.make_rows())
    )


@pytest.fixture
def trainer(monkeypatch):
    def measure(command, log):
        cost = {"parameters": 12345, "row_ms": 2.345, "row_of_batch_ms": 0.5}
        Path(command[-1]).write_text(json.dumps(cost))
        return ""

    trainer = Trainer(wrong=["r32", "r35"])
    monkeypatch.setattr(contests, "perform", trainer)
    monkeypatch.setattr(contests, "as_ctrl_c", lambda: None)
    monkeypatch.setattr(contests, "run_logged", measure)
    return trainer


def test_one_table_is_printed_and_written_three_times(table, trainer, tmp_path, capsys):
    folder = tmp_path / "out"
    words = ["--presets", "gated,late", "--data", str(table), "--output", str(folder)]
    assert main([*words, "--seeds", "2"]) == 0
    page = (folder / "compare.md").read_text()
    assert page in capsys.readouterr().out
    header, _, gated, late, majority, *_ = page.splitlines()
    cells = [cell.strip() for cell in gated.strip("|").split("|")]
    assert cells[0] == "gated" and cells[1].startswith(".750 (.")
    assert cells[2:] == [".750 .750", "12,345", "10", "900", "2.3", "0.50"]
    assert late.startswith("| late ") and "majority" in majority
    assert "bootstrap which draws the test rows" in page

    content = json.loads((folder / "compare.json").read_text())
    assert [row["name"] for row in content["models"]] == ["gated", "late"]
    assert content["models"][0]["seeds"] == {"0": 0.75, "1": 0.75}
    with (folder / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["gated", "late", "majority"]
    assert rows[0]["accuracy_seed1"] == "0.75" and rows[2]["parameters"] == ""


def test_a_preset_that_fails_has_its_error_in_the_table_and_the_exit_code_is_1(
    table, trainer, tmp_path
):
    trainer.failing = {f"gated, seed {k}": "The loss became nan." for k in range(3)}
    folder = tmp_path / "out"
    words = ["--presets", "gated,late", "--data", str(table), "--output", str(folder)]
    assert main(words) == 1
    page = (folder / "compare.md").read_text()
    (line,) = [x for x in page.splitlines() if x.startswith("| gated ")]
    assert line.split("|")[2].strip() == "failed"
    assert "gated: The loss became nan." in page and ".750" in page
    assert main(words) == 1 and len(trainer.trained_model) == 3
    trainer.failing = {}
    assert main(words) == 0 and len(trainer.trained_model) == 6


def test_all_may_fail(table, trainer, tmp_path):
    trainer.failing = {"gated, seed 0": "It was ended by SIGKILL."}
    words = ["--presets", "gated", "--data", str(table), "--seeds", "1"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 1
    assert "ended by SIGKILL" in (tmp_path / "out" / "compare.md").read_text()


# The whole program ----------------------------------------------------------------


def command(table, output, *more):
    words = ["--presets", "small-concat", "--data", table, "--output", output]
    words += ["--seeds", 1, "--train.batch_size", 4, "--text.tokens", "word"]
    words += ["--evaluate.bootstrap_resamples", 20, "--evaluate.noise_rows", 0]
    words += ["--table.cache_dir", table.parent / "cache", *more]
    return [sys.executable, "-m", "mmkeras.compare", *map(str, words)]


@pytest.mark.e2e
def test_the_program_is_interrupted_goes_on_and_measures(table, tmp_path):
    folder = tmp_path / "my out"
    process = subprocess.Popen(
        command(table, folder, "--epochs", 60),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = folder / "small-concat-seed0"
    deadline = time.monotonic() + 300
    while not any((run / "checkpoints").glob("phase1-epoch0000[2-9]")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert (run / "model.keras").exists(), "the run has saved its work"
    (line,) = [x for x in err.splitlines() if x.startswith("To go on: ")]
    again = shlex.split(line.removeprefix("To go on: "))
    done = subprocess.run(
        [sys.executable, *again[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads((folder / "compare.json").read_text())["models"]
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert row["accuracy"]["value"] == metrics["accuracy"]["value"]
    assert row["parameters"] > 1000 and 0 < row["row_of_batch_ms"] < row["row_ms"]
    assert row["peak_mb"] > 200 and row["seconds"] > 1
    log = (folder / "small-concat-seed0.log").read_text()
    assert log.count("Epoch 2/60") == 1, "no epoch was trained twice"
