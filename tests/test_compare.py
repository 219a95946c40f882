import json
import signal
from pathlib import Path

import pytest

from mmkeras.compare import main
from mmkeras.experiments import comparison_run
from tests import table_factory
from tests.fake_training import Trainer
from tests.program_harness import (
    output_of,
    read_csv,
    resume_command,
    signal_at_checkpoint,
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data" / "data.csv"
    return table_factory.write_table(path, table_factory.texts())


def arguments(table, output, presets="gated,late"):
    return ["--presets", presets, "--data", str(table), "--output", str(output)]


@pytest.fixture
def trainer(monkeypatch):
    def measure(command, log):
        cost = {"parameters": 12345, "row_ms": 2.345, "row_of_batch_ms": 0.5}
        Path(command[-1]).write_text(json.dumps(cost))
        return ""

    trainer = Trainer(wrong=["r32", "r35"])
    monkeypatch.setattr(comparison_run, "run_subprocess", trainer)
    monkeypatch.setattr(comparison_run, "sigterm_as_keyboard_interrupt", lambda: None)
    monkeypatch.setattr(comparison_run, "run_with_log", measure)
    return trainer


def test_one_table_is_printed_and_written_three_times(table, trainer, tmp_path):
    folder = tmp_path / "out"
    out = output_of(main, [*arguments(table, folder), "--seeds", "2"])
    page = (folder / "compare.md").read_text()
    assert page in out
    header, _, gated, late, majority, *_ = page.splitlines()
    cells = [cell.strip() for cell in gated.strip("|").split("|")]
    assert cells[0] == "gated" and cells[1].startswith(".750 (.")
    assert cells[2:] == [".750 .750", "12,345", "10", "900", "2.3", "0.50"]
    assert late.startswith("| late ") and "majority" in majority
    assert "bootstrap which draws the test rows" in page

    content = json.loads((folder / "compare.json").read_text())
    assert [row["name"] for row in content["models"]] == ["gated", "late"]
    assert content["models"][0]["seeds"] == {"0": 0.75, "1": 0.75}
    rows = read_csv(folder / "compare.csv")
    assert [row["model"] for row in rows] == ["gated", "late", "majority"]
    assert rows[0]["accuracy_seed1"] == "0.75" and rows[2]["parameters"] == ""


def test_a_failing_preset_is_in_the_table_and_exits_with_1(table, trainer, tmp_path):
    failing = {f"gated, seed {k}": "The loss became nan." for k in range(3)}
    folder = tmp_path / "out"
    words = arguments(table, folder)
    trainer.failing = failing | {f"late, seed {k}": "Killed." for k in range(3)}
    assert main(words) == 1, "all models may fail"
    trainer.failing = failing
    assert main(words) == 1
    page = (folder / "compare.md").read_text()
    (line,) = [x for x in page.splitlines() if x.startswith("| gated ")]
    assert line.split("|")[2].strip() == "failed"
    assert "gated: The loss became nan." in page and ".750" in page
    assert main(words) == 1 and len(trainer.trained_names) == 3
    trainer.failing = {}
    assert main(words) == 0 and len(trainer.trained_names) == 6


def test_all_presets_have_a_row_and_a_reason_if_the_settings_do_not_fit(
    table, trainer, tmp_path
):
    folder = tmp_path / "out"
    words = [*arguments(table, folder, "all"), "--seeds", "1"]
    assert main(words) == 0
    lines = (folder / "compare.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| linear ")]
    assert line.split("|")[2].strip().startswith(".750 (.")
    words[-3] = str(folder := tmp_path / "another")
    assert main([*words, "--text.units", "64"]) == 1
    page = (folder / "compare.md").read_text()
    (line,) = [x for x in page.splitlines() if x.startswith("| linear ")]
    assert line.split("|")[2].strip() == "failed"
    assert "linear: fusion.kind=linear is" in page and page.count(".750 (.") > 10


@pytest.mark.slow
def test_an_interrupted_comparison_resumes_and_measures(table, tmp_path):
    folder = tmp_path / "my out"
    words = arguments(table, folder, "small-concat")
    words += ["--seeds", "1", "--train.batch_size", "4", "--text.tokens", "word"]
    words += ["--evaluate.bootstrap_resamples", "20", "--evaluate.noise_rows", "0"]
    words += ["--table.cache_dir", str(table.parent / "cache"), "--epochs", "60"]
    run = folder / "small-concat-seed0"
    checkpoint = "phase1-epoch0000[2-9]"
    code, err = signal_at_checkpoint("compare", words, run, checkpoint, signal.SIGINT)
    assert code == 130 and "Traceback" not in err
    assert (run / "model.keras").exists(), "the run has saved its work"
    assert main(resume_command(err)[3:]) == 0
    (row,) = json.loads((folder / "compare.json").read_text())["models"]
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert row["accuracy"]["value"] == metrics["accuracy"]["value"]
    assert row["parameters"] > 1000 and 0 < row["row_of_batch_ms"] < row["row_ms"]
    assert row["peak_mb"] > 200 and row["seconds"] > 1
    log = (folder / "small-concat-seed0.log").read_text()
    assert log.count("Epoch 2/60") == 1, "no epoch was trained twice"
