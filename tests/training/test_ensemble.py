import json
from dataclasses import replace

import numpy as np
import pytest

from mmkeras import train as program
from mmkeras.cli import load_config
from mmkeras.config import EnsembleConfig, TrainConfig
from mmkeras.config.members import member_configs
from mmkeras.data.folds import fold_datasets
from mmkeras.errors import UserError
from mmkeras.export.inference import Predictor, load_settings, load_trained
from mmkeras.schema import CONFIG_FILE
from mmkeras.training import ensemble, run_folder
from mmkeras.training.ensemble import train_run
from mmkeras.training.prepare_run import prepare_run
from tests import table_factory

PRESETS = EnsembleConfig(presets="small-concat,gated")
FOLDS = EnsembleConfig(folds=2)


@pytest.fixture
def train(tiny_config, folder, table):
    """Returns a function that trains an ensemble of one epoch in `folder`."""

    def run(settings, **changes):
        config = replace(tiny_config(epochs=1, **changes), ensemble=settings)
        train_run(folder, config, table)
        return json.loads((folder / "ensemble.json").read_text())

    return run


def probabilities(folder):
    predictor = Predictor(load_trained(folder))
    return predictor({"text": [b"good 1", b"bad 2", b""]})["probabilities"]


def test_presets_are_trained_one_by_one_and_exported_as_one(train, folder, capsys):
    content = train(PRESETS)
    names = [entry["preset"] for entry in content["presets"]]
    assert names == ["small-concat", "gated"]
    assert content["validation"]["rows"] == 8
    weights = [entry["weight"] for entry in content["presets"]]
    assert sum(weights) == pytest.approx(1)
    assert capsys.readouterr().out.count("Schedule: batches of") == 2
    assert run_folder.is_finished(folder) and (folder / "export" / "1").is_dir()
    assert np.isfinite(probabilities(folder)).all()
    exported = folder / "export" / "1" / "assets.extra" / CONFIG_FILE
    assert load_config(exported) == load_config(folder / CONFIG_FILE)
    assert not (folder / "members" / "gated" / "model.keras").exists()


def test_members_have_schedules_and_the_ensemble_has_none(
    folder, tiny_config, table, capsys
):
    settings = TrainConfig(batch_size="auto", passes="auto")
    config = replace(tiny_config(epochs="auto", train=settings), ensemble=PRESETS)
    prepare_run(folder, config, table, list(member_configs(config).values()))
    written = load_config(folder / CONFIG_FILE)
    assert (written.epochs, written.train) == ("auto", settings)
    assert "Schedule" not in capsys.readouterr().out
    prepare_run(folder, config, table, list(member_configs(config).values()))  # again
    assert load_config(folder / CONFIG_FILE) == written
    assert load_settings(folder)[0].train.read_rows == 32


def test_each_fold_validates_rows_that_the_others_train_on(train, folder):
    content = train(FOLDS)
    assert content["validation"]["rows"] == 32  # the train and val rows
    names = [member["name"] for member in content["members"]]
    assert names == ["small-concat-1", "small-concat-2"]
    assert [member["weight"] for member in content["members"]] == [0.5, 0.5]
    parts = [np.load(folder / "members" / n / "validation.npz") for n in names]
    assert [len(part["values"]) for part in parts] == [16, 16]


def test_folds_have_all_rows_once_and_keep_groups_together(folder, tiny_config):
    rows = table_factory.texts(group=[f"g{i // 4}" for i in range(40)])
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    config = replace(tiny_config(), ensemble=EnsembleConfig(folds=4))
    dataset = prepare_run(folder, config, table).dataset
    folds = fold_datasets(dataset, table, config)
    masks = np.array([fold.masks["val"] for fold in folds])
    assert (masks.sum(axis=0) == 1).all()
    for fold in folds:
        assert fold.rows["train"] + fold.rows["val"] == 32 and fold.rows["test"] == 8
        assert sum(fold.labels["val"].values()) == fold.rows["val"]
        assert (fold.masks["train"] != fold.masks["val"]).all()


def test_a_finished_member_is_not_trained_again(train, folder, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "combine_models", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(PRESETS)
    assert run_folder.has_started(folder) and not run_folder.is_finished(folder)
    epochs = [p.stat().st_mtime_ns for p in folder.glob("members/*/checkpoints/*/*.h5")]
    train(PRESETS)
    paths = folder.glob("members/*/checkpoints/*/*.h5")
    assert [p.stat().st_mtime_ns for p in paths] == epochs
    assert run_folder.is_finished(folder)


def test_other_settings_are_refused_once_a_member_has_started(train, folder):
    train(PRESETS)
    with pytest.raises(UserError, match="ensemble.presets"):
        config = replace(load_trained(folder).config, ensemble=FOLDS)
        data = json.loads((folder / "manifest.json").read_text())["data"]
        run_folder.check_unchanged(folder, config, data)


def test_callbacks_are_refused(folder, table, tiny_config):
    config = replace(tiny_config(), ensemble=FOLDS)
    with pytest.raises(UserError, match="callbacks are for one model"):
        train_run(folder, config, table, callbacks=[object()])


def test_ensemble_without_folds_is_refused(table):
    with pytest.raises(UserError, match="--ensemble needs --folds K"):
        program.main(["--data", str(table), "--ensemble"])
