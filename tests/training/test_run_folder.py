import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from mmkeras import files
from mmkeras.cli import load_config
from mmkeras.config import to_dict
from mmkeras.config.presets import small_concat
from mmkeras.errors import UserError
from mmkeras.export import run_manifest
from mmkeras.reports import summary
from mmkeras.training import run_folder

CONFIG = small_concat()


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    folder = tmp_path / "some" / "run"
    with run_folder.locked_folder(folder):
        assert folder.is_dir() and run_manifest.read_manifest(folder) == {}
        assert not run_folder.is_finished(folder)


def test_an_unfinished_run_is_taken_up_again(tmp_path):
    with run_folder.locked_folder(tmp_path / "run"):
        (tmp_path / "run" / "half.txt").write_text("work")
    with run_folder.locked_folder(tmp_path / "run"):
        assert (tmp_path / "run" / "half.txt").read_text() == "work"


def test_an_empty_folder_of_the_user_is_taken(tmp_path):
    with run_folder.locked_folder(tmp_path):
        run_manifest.write_manifest(tmp_path, seed=3)
    assert run_manifest.read_manifest(tmp_path)["seed"] == 3


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="holds no run of mmkeras; nothing is overwr"):
        with run_folder.locked_folder(tmp_path):
            raise AssertionError("was opened")
    assert contents(tmp_path) == before


def test_a_file_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "run"
    file.write_text("mine")
    with pytest.raises(UserError, match="is a file; give a folder"):
        with run_folder.locked_folder(file):
            pass
    with pytest.raises(UserError, match="cannot be made"):
        with run_folder.locked_folder(file / "below"):
            pass
    assert file.read_text() == "mine"


HELD = """
import sys
from pathlib import Path
from mmkeras.training import run_folder
with run_folder.locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_trains_is_refused_until_that_ends(tmp_path):
    command = [sys.executable, "-c", HELD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="Another process is training in"):
            with run_folder.locked_folder(tmp_path / "run"):
                pass
        other.kill()  # even killed it lets go
        other.wait()
    with run_folder.locked_folder(tmp_path / "run"):
        pass


def test_an_error_inside_is_no_matter_of_the_folder(tmp_path):
    with pytest.raises(OSError, match="disk full"):
        with run_folder.locked_folder(tmp_path):
            raise OSError("disk full")


# The same run -----------------------------------------------------------------


@pytest.fixture
def noted(tmp_path):
    run_manifest.write_manifest(tmp_path, data="/a/data.csv", settings=to_dict(CONFIG))
    (tmp_path / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    return tmp_path


def test_the_same_table_and_settings_go_on(noted):
    run_folder.check_unchanged(noted, CONFIG, "/a/data.csv")
    run_folder.check_unchanged(noted / "new", replace(CONFIG, epochs=7), "anything")


def test_before_the_first_epoch_settings_may_change(noted):
    (noted / "checkpoints" / "phase1-epoch00001").rmdir()
    run_folder.check_unchanged(noted, replace(CONFIG, seed=1), "/b.csv")


def test_another_table_is_refused_by_name(noted):
    with pytest.raises(UserError, match="a run on '/a/data.csv', not on '/b.csv'"):
        run_folder.check_unchanged(noted, CONFIG, "/b.csv")


def test_another_setting_is_refused_by_name_and_both_values(noted):
    deep = replace(CONFIG, train=replace(CONFIG.train, batch_size=7))
    message = "train.batch_size=32, and this one has train.batch_size=7.*--output"
    with pytest.raises(UserError, match=message):
        run_folder.check_unchanged(noted, deep, "/a/data.csv")
    with pytest.raises(UserError, match="with seed=0, and this one has seed=1"):
        run_folder.check_unchanged(noted, replace(CONFIG, seed=1), "/a/data.csv")


# Files ------------------------------------------------------------------------


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    first = run_folder.new_folder(CONFIG.preset, tmp_path)
    first.mkdir()
    second = run_folder.new_folder(CONFIG.preset, tmp_path)
    assert first != second and "small-concat" in first.name


def test_the_config_that_is_written_is_the_config_that_is_read(tmp_path):
    config = replace(CONFIG, seed=5, table=replace(CONFIG.table, text_column="Wörter"))
    run_folder.write_config(tmp_path, config)
    assert load_config(tmp_path / "config.yaml") == config


def test_the_manifest_keeps_what_it_had_and_names_versions(tmp_path):
    run_manifest.write_manifest(tmp_path, seed=1, rows={"train": 3})
    run_manifest.write_manifest(tmp_path, finished=True)
    manifest = run_manifest.read_manifest(tmp_path)
    assert (manifest["seed"], manifest["finished"]) == (1, True)
    assert manifest["versions"][
        "keras"
    ] == keras.__version__ and run_folder.is_finished(tmp_path)


def test_a_file_that_cannot_be_finished_does_not_replace_the_old(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.txt", "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_the_summary_names_the_newest_export_and_what_to_do_next(tmp_path):
    folder = tmp_path / "my run"
    for version in ("9", "10", ".11.partial"):
        (folder / "export" / version).mkdir(parents=True)
    value = {"value": 0.5, "low": 0.25, "high": 0.75}
    nothing = {"value": None, "low": None, "high": None}
    names = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss", "ece")
    metrics = {**dict.fromkeys(names, value), "roc_auc": nothing}
    content = {"rows": 1234, "metrics": metrics, "verdict": "It is better."}
    (folder / "metrics.json").write_text(json.dumps(content))
    run_manifest.write_manifest(folder)

    lines = summary.run_summary(folder).split("\n")

    assert lines[0] == "Metrics on 1,234 rows, with 95 % intervals:"
    assert lines[1].split() == "accuracy 0.500 (0.250 to 0.750)".split()
    assert not any("roc_auc" in line for line in lines) and "It is better." in lines
    report, export, serve, predict = lines[-4:]
    assert report == f"Report:  {folder / 'report.html'}"
    assert export == f"Export:  {folder / 'export' / '10'}"
    assert f"-v '{folder / 'export'}':/models/mmkeras" in serve
    assert f"mmkeras.predict --model '{folder}' --data FILE.csv" in predict


@pytest.mark.parametrize(
    ("tensorflow", "image"),
    [("2.16.2", ":2.16.1"), ("2.21.0", ":2.21.0"), ("2.22.1", ":latest")],
)
def test_the_image_of_tf_serving_fits_the_tensorflow_that_exported(tensorflow, image):
    manifest = {"versions": {"tensorflow": tensorflow}}
    command = summary.serve_command("/runs/my run/export", manifest)
    assert command.endswith(f"tensorflow/serving{image}")
    assert "-v '/runs/my run/export':/models/mmkeras" in command


def manifest_of_keras(folder, version):
    (folder / "checkpoints" / "phase1").mkdir(parents=True)
    content = {"data": "a", "settings": {}, "versions": {"keras": version}}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_run_of_a_later_keras_is_refused_before_anything_else(tmp_path):
    manifest_of_keras(tmp_path, "99.1.0")
    with pytest.raises(UserError) as caught:
        run_folder.check_unchanged(tmp_path, CONFIG, "another table")
    (line,) = str(caught.value).splitlines()
    assert "Keras 99.1.0" in line and f"Keras {keras.__version__}" in line
    assert "Python 3.11 to 3.13" in line


@pytest.mark.parametrize("version", ["3.9.0", keras.__version__, "not installed"])
def test_a_run_of_this_or_an_earlier_keras_is_read(tmp_path, version):
    manifest_of_keras(tmp_path, version)
    run_manifest.check_keras(tmp_path)
