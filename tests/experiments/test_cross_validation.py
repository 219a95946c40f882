import json

import pytest

from mmkeras.errors import UserError
from mmkeras.train import main
from tests import table_factory
from tests.program_harness import read_csv, resume_command, to_argv

FOLDS = [f"fold {k}" for k in (1, 2, 3, 4)]


ROWS = table_factory.texts(["train"] * 20)  # folds ignore these splits


@pytest.fixture(autouse=True)
def wrong_rows(trainer):
    trainer.wrong = {"r00", "r01", "r02"}


@pytest.fixture
def table(tmp_path):
    return table_factory.write_table(tmp_path / "data" / "data.csv", ROWS)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "my out"


def train(table, output, *more, folds=4):
    flags = {"--data": table, "--output": output, "--folds": folds}
    return main([*to_argv(flags), "--preset", "small-concat", *more])


def test_every_row_is_predicted_once_in_the_order_of_the_table(table, output, capsys):
    assert train(table, output) == 0
    predictions = read_csv(output / "predictions.csv")
    assert [row["id"] for row in predictions] == [row["id"] for row in ROWS]
    wrong = [row["id"] for row in predictions if row["label"] != row["predicted"]]
    assert wrong == ["r00", "r01", "r02"]
    out = capsys.readouterr().out
    columns, folds, *_ = out.splitlines()
    assert columns.startswith("Columns: id: id; ")
    assert folds.startswith("4 folds of 5 rows, stratified by label.")
    assert "[4/4] fold 4: accuracy " in out and ", in 10 s\n" in out
    assert "predictions.csv, 20 rows" in out


def test_mean_and_deviation_are_those_of_the_folds(table, output, capsys):
    train(table, output)
    content = json.loads((output / "folds.json").read_text())
    accuracy = content["metrics"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(17 / 20) and len(accuracy["each"]) == 4
    squares = sum((x - accuracy["mean"]) ** 2 for x in accuracy["each"])
    assert accuracy["deviation"] == pytest.approx((squares / 3) ** 0.5)
    assert content["metrics"]["roc_auc"]["mean"] is None  # unknown in every fold
    assert content["baselines"]["majority"]["accuracy"]["mean"] == 0.5
    assert (content["folds"], content["rows"]) == (4, [5, 5, 5, 5])
    out = capsys.readouterr().out
    assert f"  0.850  ({accuracy['deviation']:.3f})" in out and "roc_auc" not in out


def test_no_group_is_in_two_folds(output, tmp_path, capsys):
    rows = [row | {"group": f"g{i // 4}"} for i, row in enumerate(ROWS)]
    train(table_factory.write_table(tmp_path / "data.csv", rows), output, folds=3)
    assert "no group in two (5 of 'group')" in capsys.readouterr().out
    groups = {row["id"]: row["group"] for row in rows}
    folds = map(read_csv, output.glob("fold-*/predictions.csv"))
    tested = [group for fold in folds for group in {groups[row["id"]] for row in fold}]
    assert sorted(tested) == sorted(set(groups.values()))


def test_ctrl_c_prints_the_command_that_resumes(table, output, trainer, capsys):
    trainer.interrupted_at = "fold 3"
    assert train(table, output, "--epochs", "3") == 130
    command = resume_command(capsys.readouterr().err)
    assert command[:3] == ["python", "-m", "mmkeras.train"]
    assert main(command[3:]) == 0
    assert trainer.trained_names == FOLDS


def test_a_fold_that_fails_ends_it_with_its_error_and_log(table, output, trainer):
    trainer.failing["fold 2"] = "2 of 20 rows cannot be used:\n  line 3 (id r01): x"
    with pytest.raises(UserError) as error:
        train(table, output)
    log = output / "fold-2.log"
    assert str(error.value) == f"{trainer.failing['fold 2']}\nLog: {log}"
    assert trainer.trained_names == ["fold 1"]


def test_another_number_of_folds_or_setting_is_refused(table, output):
    train(table, output)
    with pytest.raises(UserError, match="table.folds=4, .*table.folds=5"):
        train(table, output, folds=5)
    with pytest.raises(UserError, match="epochs=auto, .*epochs=9"):
        train(table, output, "--epochs", "9")


def test_folders_of_folds_and_of_a_single_run_are_not_mixed(table, output):
    train(table, output)
    with pytest.raises(UserError, match="holds a cross-validation. .*--output"):
        main(["--data", str(table), "--output", str(output)])
    with pytest.raises(UserError, match="holds a run without --folds. .*--output"):
        train(table, output / "fold-1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds", "1"], "table.folds=1 .*must be 0 .*or at least"),
        (["--folds", "-2"], "table.folds=-2 "),
        (["--folds", "21"], "20 usable rows or groups .*21 folds"),
        (["--folds", "x"], "folds needs int, received 'x'"),
        (
            ["--folds", "3", "--table.folds", "3", "--table.fold", "1"],
            "--folds sets table.folds",
        ),
    ],
)
def test_impossible_folds_are_refused(flags, message, table, output, trainer):
    with pytest.raises(UserError, match=message) as error:
        main(["--data", str(table), "--output", str(output), *flags])
    assert "\n" not in str(error.value) and not trainer.trained_names


def test_several_machines_are_refused(table, output, monkeypatch):
    cluster = {"worker": ["a:1", "b:1"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(UserError, match="--folds trains on one machine"):
        train(table, output)


@pytest.mark.slow
def test_the_program_trains_a_model_for_each_fold(tmp_path, output, monkeypatch):
    monkeypatch.undo()  # the fake training
    rows = table_factory.texts()
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    settings = {
        "--epochs": 8,
        "--train.batch_size": 4,
        "--text.tokens": "word",
        "--evaluate.bootstrap_resamples": 20,
        "--evaluate.noise_rows": 0,
        "--table.cache_dir": tmp_path / "cache",
    }
    assert train(table, output, *to_argv(settings), folds=2) == 0
    predictions = read_csv(output / "predictions.csv")
    assert [row["id"] for row in predictions] == [row["id"] for row in rows]
    correct = sum(row["label"] == row["predicted"] for row in predictions)
    assert correct >= 34, "the words tell the class"
    for k in (1, 2):
        assert (output / f"fold-{k}" / "export" / "1").is_dir()
