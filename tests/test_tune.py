import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from mmkeras.tune import main
from tests import table_factory
from tests.program_harness import error_of, output_of, resume_command

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--minutes", "0"], "--minutes 0 is not possible; give a number above 0"),
        (["--minutes", "soon"], "--minutes needs float, received 'soon'"),
        (["--trials", "-1"], "--trials -1 is not possible; give 1 or more"),
        (["--presets", "gatd"], "There is no preset 'gatd'. Did you mean 'gated'?"),
        (["--preset", "gated", "--presets", "late"], "give one of the two"),
        (["--presets", "late,best"], "'best' is an ensemble, and a search makes its"),
        (["--ensemble.folds", "3"], "ensemble.folds=3 is for mmkeras.train"),
        (["--evaluate.trained_alone", "true"], "train the best trial with it"),
        (["--presets", "linear", "--text.units", "8"], "without text.units=8"),
        (["--minuts", "3"], "Did you mean '--minutes'?"),
        (["--data", "gone.csv"], "--data 'gone.csv' is no file"),
    ],
)
def test_a_mistake_is_one_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


def test_a_missing_optuna_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("mmkeras.environment.extras.find_spec", lambda name: None)
    line = error_of(main, ["--output", str(tmp_path / "run")], monkeypatch, capsys)
    assert "python -m mmkeras.tune needs optuna" in line and "'.[tune]'" in line


def test_several_workers_are_refused(monkeypatch, capsys):
    cluster = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": '
    cluster += '{"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    assert "on one machine" in error_of(main, [], monkeypatch, capsys)


def test_the_settings_of_the_first_trial_are_printed(capsys):
    assert main(["--presets", "gated,late", "--epochs", "3", "--print_config"]) == 0
    text = capsys.readouterr().out
    assert "preset: gated\n" in text and "epochs: 3\n" in text


def test_a_search_is_interrupted_resumed_and_finished(tmp_path):
    table = table_factory.write_table(tmp_path / "data.csv", table_factory.texts())
    folder = tmp_path / "my search"
    argv = ["--data", table, "--presets", "linear,small-concat", "--output", folder]
    argv += ["--epochs", 20, "--trials", 2, "--evaluate.bootstrap_resamples", 20]
    argv += ["--table.cache_dir", tmp_path / "cache", "--evaluate.noise_rows", 0]
    argv = list(map(str, argv))
    command = [sys.executable, "-m", "mmkeras.tune", *argv]
    process = Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)
    try:
        while not any((folder / "trials" / "001").glob("checkpoints/phase*")):
            assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    words = resume_command(err)
    assert words[:3] == ["python", "-m", "mmkeras.tune"]
    assert sorted(words[3:]) == sorted(argv)

    out = output_of(main, words[3:])
    assert "[0] " not in out and "[1] small-concat: loss" in out
    assert "Test rows: accuracy" in out and f"Report:  {folder}" in out
    again = output_of(main, words[3:])
    assert "is finished already; nothing was trained" in again
    assert again.splitlines()[-5:] == out.splitlines()[-5:]
