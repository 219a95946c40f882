import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import missing
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run as contests
from tests import table_factory
from tests.fake_training import Trainer


def test_holes_come_with_their_chance_and_never_take_all_of_a_row():
    there = np.ones((20_000, 3), bool)
    there[:5000, 1] = False
    stays = missing.kept(there, 0.5, seed=0)
    assert not (stays & ~there).any() and stays.any(axis=1).all()
    # Of three cells each goes with 1/2, and all three, with 1/8, leave one.
    assert stays[5000:].mean() == pytest.approx((3 / 2 + 1 / 8) / 3, abs=0.01)
    assert stays[5000:].mean(axis=0) == pytest.approx(13 / 24, abs=0.02)
    few = missing.kept(there, 0.9, seed=0)
    assert few[5000:].sum(axis=1).mean() == pytest.approx(0.3 + 0.729, abs=0.02)
    assert (missing.kept(there, 0.5, seed=0) == stays).all()
    assert (missing.kept(there, 0.5, seed=1) != stays).any()


@pytest.mark.parametrize("words", ["a", "50,100", "0", ""])
def test_impossible_chances_are_refused(words):
    with pytest.raises(UserError, match="must be numbers from 1 to 99"):
        missing.main(["--presets", "late", "--missing", words])


@pytest.fixture
def started(monkeypatch):
    """Commands that were started; what they would write is made up."""
    commands = []

    def run_logged(command, log):
        commands.append(command)
        module, output = command[2], Path(command[-1])
        if module == "mmkeras.predict":  # with holes the ordinary model is wrong
            table = Path(command[command.index("--data") + 1])
            with table.open(newline="") as file:
                rows = list(csv.DictReader(file))
            is_ordinary = "ordinary" in output.name
            lines = [
                [r["id"], r["label"], "x" if is_ordinary else r["label"]] for r in rows
            ]
            with output.open("w", newline="") as file:
                csv.writer(file).writerows([["id", "label", "predicted"], *lines])
        if module == "benchmarks.simple":
            output.mkdir()
            value = {"accuracy": {"value": 0.25, "low": 0.2, "high": 0.3}}
            metrics = {"baselines": {"majority": value}}
            (output / "metrics.json").write_text(json.dumps(metrics))
        if module == "mmkeras.cost":
            output.write_text(json.dumps({"parameters": 7, "row_ms": 1.0}))
        return ""

    monkeypatch.setattr(contests, "perform", Trainer(wrong=["r32", "r33"]))
    monkeypatch.setattr(contests, "as_ctrl_c", lambda: None)
    monkeypatch.setattr(contests, "run_logged", run_logged)
    monkeypatch.setattr(missing, "run_logged", run_logged)
    return commands


def words_of(tmp_path):
    table = table_factory.write_table(
        tmp_path / "data" / "data.csv", table_factory.make_rows()
    )
    words = ["--data", str(table), "--presets", "late", "--seeds", "2"]
    return [*words, "--output", str(tmp_path / "out")]


def test_both_models_meet_the_same_holes_and_stand_side_by_side(
    started, tmp_path, capsys
):
    assert missing.main(words_of(tmp_path)) == 0
    out = tmp_path / "out"
    asked = [c for c in started if c[2] == "mmkeras.predict"]
    assert len(asked) == 4
    assert len({c[c.index("--data") + 1] for c in asked}) == 2  # one of each seed
    assert sum(c[2] == "mmkeras.cost" for c in started) == 1

    content = json.loads((out / "missing.json").read_text())
    late, ordinary, gain = content["models"]
    assert [row["name"] for row in content["models"]] == [
        "late",
        "late ordinary",
        "late gain",
    ]
    assert late["at"]["0"]["value"] == ordinary["at"]["0"]["value"] == 0.75
    for chance in ("50", "90"):
        assert late["at"][chance]["value"] == gain["at"][chance]["value"] == 1
        assert ordinary["at"][chance]["value"] == 0
    (majority,) = content["baselines"]
    assert majority["at"]["0"]["value"] == 0.5 and majority["at"]["90"]["value"] == 0.25
    page = (out / "missing.md").read_text()
    assert page in capsys.readouterr().out
    assert "| late ordinary " in page and "% of the rows lack something" in page


def test_the_holes_are_in_the_test_rows_alone_and_files_are_found(started, tmp_path):
    missing.main(words_of(tmp_path))
    with (tmp_path / "out" / "holes90-seed0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(32, 40)]
    cells = [[row[m] for m in ("text", "image", "audio")] for row in rows]
    assert all(any(row) for row in cells) and not all(all(row) for row in cells)
    paths = [row[m] for row in rows for m in ("image", "audio") if row[m]]
    assert paths and all(Path(p).is_absolute() and Path(p).is_file() for p in paths)
    with (tmp_path / "out" / "holes0-seed0.csv").open(newline="") as file:
        both = [row["id"] for row in csv.DictReader(file)]
    assert len(both) == 16 and both[0] == "50:r32" and both[-1] == "90:r39"


def test_the_same_command_asks_no_model_again_but_for_other_holes(started, tmp_path):
    words = words_of(tmp_path)
    missing.main(words)
    before = len(started)
    assert missing.main(words) == 0 and len(started) == before
    assert missing.main([*words, "--missing", "30"]) == 0
    assert sum(c[2] == "mmkeras.predict" for c in started[before:]) == 4


@pytest.mark.e2e
def test_baselines_of_another_table_are_those_that_a_report_has(
    tmp_path_factory, tmp_path
):
    from benchmarks import simple

    run, table = table_factory.trained_run(tmp_path_factory)
    data = shutil.copytree(table.parent, tmp_path / "data")
    with (data / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[32:]
    rows = [row for row in rows if row["image"] != "035-image.bin"]
    with (data / "few.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    simple.main([str(run), str(data / "few.csv"), str(tmp_path / "new")])
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert metrics["rows"] == 7
    found = metrics["baselines"]["logistic_regression"]["accuracy"]["value"]
    assert found >= 0.7 > metrics["baselines"]["majority"]["accuracy"]["value"]
