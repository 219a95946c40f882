from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from mmkeras.config import TrainConfig, to_dict
from mmkeras.config.presets import small_concat
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.training import run_folder
from mmkeras.training.run_folder import (
    check_finished,
    check_unchanged,
    locked_folder,
    table_fingerprint,
)

CONFIG = replace(small_concat(), train=TrainConfig())
RESOLVED = {"epochs": 30, "train.batch_size": 32, "train.passes": 7}


def test_a_folder_of_something_else_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no run of mmkeras"):
        with locked_folder(tmp_path):
            raise AssertionError("was opened")
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "message"), [("run", "is a file; give a folder"), ("run/a", "cannot be")]
)
def test_a_file_is_refused_and_not_changed(tmp_path, name, message):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match=message), locked_folder(tmp_path / name):
        pass
    assert (tmp_path / "run").read_text() == "mine"


def test_a_locked_folder_is_refused_until_its_run_ends(tmp_path):
    folder = tmp_path / "some" / "run"
    with locked_folder(folder):
        (folder / "half.txt").write_text("work")
        assert not run_folder.is_finished(folder)
        message = "Another process is training in .*--output"
        with pytest.raises(UserError, match=message), locked_folder(folder):
            pass
    with locked_folder(folder):
        assert (folder / "half.txt").read_text() == "work"
    (tmp_path / "empty").mkdir()
    with locked_folder(tmp_path / "empty"):
        pass


def test_an_error_inside_is_not_translated(tmp_path):
    with pytest.raises(OSError, match="disk full"), locked_folder(tmp_path):
        raise OSError("disk full")


@pytest.fixture
def started(tmp_path):
    """The folder of a run with one epoch."""
    run_manifest.write_manifest(tmp_path, data="/a/data.csv", settings=to_dict(CONFIG))
    (tmp_path / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    return tmp_path


def test_the_same_table_and_settings_go_on(started):
    check_unchanged(started, CONFIG, "/a/data.csv")
    check_unchanged(started / "new", replace(CONFIG, epochs=7), "anything")


def test_before_the_first_epoch_settings_may_change(started):
    (started / "checkpoints" / "phase1-epoch00001").rmdir()
    check_unchanged(started, replace(CONFIG, seed=1), "/b.csv")


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        ({}, "/b.csv", "'/a/data.csv', not on '/b.csv'.*--output"),
        ({"seed": 1}, "/a/data.csv", "seed=0, .* seed=1.*--output"),
        (
            {"train": replace(CONFIG.train, batch_size=7)},
            "/a/data.csv",
            "train.batch_size=auto, .* train.batch_size=7",
        ),
    ],
)
def test_another_table_or_setting_is_refused(started, change, data, message):
    with pytest.raises(UserError, match=message):
        check_unchanged(started, replace(CONFIG, **change), data)


def test_a_started_run_keeps_its_schedule(started):
    run_manifest.write_manifest(started, resolved=RESOLVED)
    check_unchanged(started, CONFIG, "/a/data.csv")
    config = run_folder.with_stored_values(started, CONFIG)
    train = config.train
    stored = (config.epochs, train.batch_size, train.passes, config.text.tokens)
    assert stored == (30, 32, 7, "auto")
    check_unchanged(started, config, "/a/data.csv")  # as in config.yaml
    with pytest.raises(UserError, match="epochs=30, .* epochs=3"):
        check_unchanged(started, replace(CONFIG, epochs=3), "/a/data.csv")


def test_an_unfinished_run_of_an_earlier_version_is_refused(started):
    settings = {k: v for k, v in to_dict(CONFIG).items() if k != "columns"}
    run_manifest.write_manifest(started, settings=settings)
    with pytest.raises(UserError, match="earlier version, which cannot go on"):
        check_unchanged(started, CONFIG, "/a/data.csv")
    run_manifest.write_manifest(started, finished=True)
    check_unchanged(started, CONFIG, "/a/data.csv")


def test_a_run_of_an_earlier_version_has_the_default_of_a_new_setting(started):
    settings = to_dict(CONFIG)
    del settings["train"]["fine_tune_decay"]
    run_manifest.write_manifest(started, settings=settings)
    check_unchanged(started, CONFIG, "/a/data.csv")
    config = replace(CONFIG, train=replace(CONFIG.train, fine_tune_decay=0.5))
    with pytest.raises(UserError, match="train.fine_tune_decay=0.3, .* has .*=0.5"):
        check_unchanged(started, config, "/a/data.csv")


def test_a_run_of_an_earlier_version_has_a_renamed_setting(started):
    settings = to_dict(CONFIG)
    settings["train"]["fine_tune_learning_rate"] = 2e-5
    del settings["train"]["fine_tune_rate"]
    run_manifest.write_manifest(started, settings=settings)
    config = replace(CONFIG, train=replace(CONFIG.train, fine_tune_rate=2e-5))
    check_unchanged(started, config, "/a/data.csv")
    with pytest.raises(UserError, match="train.fine_tune_rate=2e-05, .* has .*=1e-05"):
        check_unchanged(started, CONFIG, "/a/data.csv")


def test_only_a_schedule_may_be_auto_where_the_run_has_a_value(started):
    settings = to_dict(replace(CONFIG, image=replace(CONFIG.image, frozen="yes")))
    run_manifest.write_manifest(started, settings=settings)
    with pytest.raises(UserError, match="image.frozen=yes, .* image.frozen=auto"):
        check_unchanged(started, CONFIG, "/a/data.csv")


def test_a_started_run_of_a_later_keras_is_refused_first(started, monkeypatch):
    monkeypatch.setattr("mmkeras.export.run_manifest.version", lambda _: "2.0")
    with pytest.raises(UserError, match="Keras 2.0"):
        check_unchanged(started, CONFIG, "another table")


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    first = run_folder.new_folder(CONFIG.preset, tmp_path)
    first.mkdir()
    second = run_folder.new_folder(CONFIG.preset, tmp_path)
    assert first != second and "small-concat" in first.name


def test_a_started_run_is_copied_without_what_a_kill_left(started, tmp_path_factory):
    (started / "checkpoints" / ".half").mkdir()
    local_folder = tmp_path_factory.mktemp("local")
    run_folder.copy_started_run(started, local_folder)
    check_unchanged(local_folder, CONFIG, "/a/data.csv")
    (path,) = (local_folder / "checkpoints").iterdir()
    assert path.name == "phase1-epoch00001"


def test_a_fitted_linear_model_is_a_started_run(tmp_path):
    settings = to_dict(CONFIG)
    for is_fitted in (False, True):
        run_manifest.write_manifest(tmp_path, data="a", settings=settings)
        assert run_folder.has_started(tmp_path) == is_fitted
        run_manifest.write_manifest(tmp_path, fitted=True)
    (tmp_path / "local").mkdir()
    run_folder.copy_started_run(tmp_path, tmp_path / "local")
    with pytest.raises(UserError, match="seed=0, .* seed=1"):
        check_unchanged(tmp_path / "local", replace(CONFIG, seed=1), "a")


def test_a_finished_run_is_that_of_its_table(tmp_path):
    path, folder = tmp_path / "rows.csv", tmp_path
    path.write_text("text,label\na,b\n")
    fingerprint = table_fingerprint(path)
    run_manifest.write_manifest(folder, table=fingerprint, finished=True)
    check_finished(folder, path)
    path.write_text("text,label\na,c\n")
    with pytest.raises(UserError, match="table has changed since the run"):
        check_finished(folder, path)
    run_manifest.write_manifest(folder, table=fingerprint, finished=False)
    check_finished(folder, path)  # which `prepare_run` checks with the files


def test_a_table_that_is_known_by_times_only_has_no_fingerprint(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
    assert table_fingerprint(tmp_path / "rows.parquet") == ""
    assert table_fingerprint(None) == ""
