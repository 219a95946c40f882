import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmkeras.errors import UserError
from mmkeras.experiments import cross_validation
from mmkeras.train import main
from tests import table_factory
from tests.fake_training import Trainer

ROOT = Path(__file__).parents[2]


def texts(count=20, **columns):
    """Rows of text; each of `columns` gives a cell of a row by its number."""
    return [
        {"id": f"r{i:02d}", "label": "ab"[i % 2], "text": f"word {i}"}
        | {name: cell(i) for name, cell in columns.items()}
        for i in range(count)
    ]


@pytest.fixture
def table(tmp_path):
    return table_factory.write_table(tmp_path / "data" / "data.csv", texts())


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer(wrong=["r00", "r01", "r02"])
    monkeypatch.setattr(cross_validation, "perform", trainer)
    monkeypatch.setattr(cross_validation, "as_ctrl_c", lambda: None)
    return trainer


def train(table, output, *more, number=4):
    words = ["--data", str(table), "--output", str(output), "--folds", str(number)]
    return main([*words, "--preset", "small-concat", *more])


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_predicted_once_in_the_order_of_the_table(
    table, trainer, tmp_path, capsys
):
    assert train(table, tmp_path / "out") == 0
    answers = read(tmp_path / "out" / "predictions.csv")
    assert [row["id"] for row in answers] == [row["id"] for row in texts()]
    wrong = [row["id"] for row in answers if row["label"] != row["predicted"]]
    assert wrong == ["r00", "r01", "r02"]
    out = capsys.readouterr().out
    assert out.startswith("4 folds of 5 rows, each set of labels evenly in all. Every")
    assert "[4/4] fold 4: accuracy " in out and ", in 10 s\n" in out
    assert "predictions.csv, 20 rows, each by the model" in out


def test_mean_and_deviation_are_those_of_the_folds(table, trainer, tmp_path, capsys):
    train(table, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "folds.json").read_text())
    found = content["metrics"]["accuracy"]
    assert found["mean"] == pytest.approx(17 / 20) and len(found["each"]) == 4
    squares = sum((x - found["mean"]) ** 2 for x in found["each"])
    assert found["deviation"] == pytest.approx((squares / 3) ** 0.5)
    assert content["metrics"]["roc_auc"]["mean"] is None  # no fold could tell
    assert content["baselines"]["majority"]["accuracy"]["mean"] == 0.5
    assert (content["folds"], content["rows"]) == (4, [5, 5, 5, 5])
    out = capsys.readouterr().out
    assert f"  0.850  ({found['deviation']:.3f})" in out and "roc_auc" not in out


def test_no_group_is_in_two_folds_and_it_is_said(trainer, tmp_path, capsys):
    rows = texts(group=lambda i: f"g{i // 4}", split=lambda i: "train")
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    train(table, tmp_path / "out", number=3)
    assert "no group in two (5 of 'group')" in capsys.readouterr().out
    groups = [
        {row["id"] for row in read(tmp_path / "out" / f"fold-{k}" / "predictions.csv")}
        for k in (1, 2, 3)
    ]
    for row in rows:
        same = {r["id"] for r in rows if r["group"] == row["group"]}
        assert any(same <= fold for fold in groups)


def test_finished_folds_are_not_trained_again(table, trainer, tmp_path, capsys):
    train(table, tmp_path / "out")
    before = (tmp_path / "out" / "folds.json").read_text()
    assert train(table, tmp_path / "out") == 0
    assert trainer.trained_model == [f"fold {k}" for k in (1, 2, 3, 4)]
    assert (tmp_path / "out" / "folds.json").read_text() == before
    assert "[1/4] fold 1: accuracy" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on_and_that_goes_on(table, trainer, tmp_path, capsys):
    trainer.interrupted_at = "fold 3"
    assert train(table, tmp_path / "my out", "--epochs", "3") == 130
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "To go on" in x]
    words = shlex.split(line.removeprefix("To go on: "))
    assert words[:3] == ["python", "-m", "mmkeras.train"]
    assert main(words[3:]) == 0
    assert trainer.trained_model == [f"fold {k}" for k in (1, 2, 3, 4)]


def test_a_fold_that_fails_ends_it_with_its_error_and_log(table, trainer, tmp_path):
    trainer.failing["fold 2"] = "2 of 20 rows cannot be used:\n  line 3 (id r01): x"
    with pytest.raises(UserError) as caught:
        train(table, tmp_path / "out")
    log = tmp_path / "out" / "fold-2.log"
    assert str(caught.value) == f"{trainer.failing['fold 2']}\nLog: {log}"
    assert trainer.trained_model == ["fold 1"]


def test_another_number_of_folds_or_setting_is_refused(table, trainer, tmp_path):
    train(table, tmp_path / "out")
    with pytest.raises(UserError, match="holds a run with table.folds=4, and this"):
        train(table, tmp_path / "out", number=5)
    with pytest.raises(UserError, match="holds a run with epochs=30, and this one"):
        train(table, tmp_path / "out", "--epochs", "9")


def test_a_folder_of_folds_and_one_of_a_run_are_not_mixed_up(table, trainer, tmp_path):
    train(table, tmp_path / "out")
    with pytest.raises(UserError, match="holds a cross-validation. Give another"):
        main(["--data", str(table), "--output", str(tmp_path / "out")])
    with pytest.raises(UserError, match="holds a run without --folds"):
        train(table, tmp_path / "out" / "fold-1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--folds", "1"],
            "table.folds=1 is not possible: it must be 0 .* or at least",
        ),
        (["--folds", "-2"], "table.folds=-2 is not possible"),
        (["--folds", "21"], "20 usable rows or groups are too few for 21 folds: each"),
        (["--folds", "x"], "folds needs int, received 'x'"),
        (
            ["--folds", "3", "--table.folds", "3", "--table.fold", "1"],
            "--folds sets table.folds and table.fold; leave them out",
        ),
    ],
)
def test_impossible_folds_are_refused_in_one_line(
    flags, message, table, trainer, tmp_path
):
    with pytest.raises(UserError, match=message) as caught:
        main(["--data", str(table), "--output", str(tmp_path / "out"), *flags])
    assert "\n" not in str(caught.value) and not trainer.trained_model


def test_several_machines_are_refused(table, trainer, tmp_path, monkeypatch):
    cluster = {"worker": ["a:1", "b:1"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(UserError, match="--folds trains on one machine"):
        train(table, tmp_path / "out")


@pytest.mark.e2e
def test_the_program_trains_a_model_for_each_fold(tmp_path):
    rows = [
        {k: r[k] for k in ("id", "label", "text")} for r in table_factory.make_rows()
    ]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    words = ["--data", table, "--output", tmp_path / "out", "--folds", 2]
    words += ["--preset", "small-concat", "--epochs", 8, "--train.batch_size", 4]
    words += ["--text.tokens", "word", "--evaluate.bootstrap_resamples", 20]
    words += ["--evaluate.noise_rows", 0, "--table.cache_dir", tmp_path / "cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mmkeras.train", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = read(tmp_path / "out" / "predictions.csv")
    assert [row["id"] for row in answers] == [row["id"] for row in rows]
    right = sum(row["label"] == row["predicted"] for row in answers)
    assert right >= 34, "the words tell the class"
    for k in (1, 2):
        assert (tmp_path / "out" / f"fold-{k}" / "export" / "1").is_dir()
