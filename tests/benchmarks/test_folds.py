import numpy as np

from benchmarks import folds
from benchmarks.small_tables import TABLES, Rows


def test_each_seed_trains_one_model_and_an_ensemble_on_the_same_table(
    monkeypatch, capsys
):
    vectors = list(np.eye(12, dtype="float32"))
    rows = Rows(labels=["a", "b"] * 6, columns={"text": vectors})
    monkeypatch.setitem(TABLES, "iris", lambda: rows)
    trained = []

    def trains(accuracy):
        def train(table, config, folder):
            trained.append((folder.name, config.seed, table.read_text()))
            return accuracy + config.seed / 10

        return train

    monkeypatch.setattr(folds, "train", trains(0.5))
    monkeypatch.setattr(folds, "train_folds", trains(0.7))
    folds.main(["--seeds", "2", "--tables", "iris"])
    names, seeds, tables = zip(*trained, strict=True)
    assert names == ("one-0", "folds-0", "one-1", "folds-1")
    assert seeds == (0, 0, 1, 1) and len(set(tables)) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| iris | 0.550 | 0.750 | +0.200 |",
        "Mean difference: +0.200",
    ]
