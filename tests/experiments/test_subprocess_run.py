import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkeras.errors import UserError
from mmkeras.experiments.subprocess_run import (
    check_runs,
    plan_run,
    run_subprocess,
    run_with_log,
)
from mmkeras.export import run_manifest
from mmkeras.training import run_folder

ROOT = Path(__file__).parents[2]


def python(code):
    return [sys.executable, "-c", code]


def test_an_error_of_ours_is_given_with_all_its_lines(tmp_path):
    code = "import sys; print('epoch 1'); sys.exit('error: 2 rows:\\n  line 3')"
    error = run_with_log(python(code), tmp_path / "log")
    assert error == "2 rows:\n  line 3"


def test_of_a_crash_the_last_line_is_given_and_the_log_has_all(tmp_path):
    log = tmp_path / "log"
    log.write_text("error: of the day before\n")
    error = run_with_log(python("print('begun', flush=True); 1 / 0"), log)
    assert error == "ZeroDivisionError: division by zero"
    assert "begun" in log.read_text() and "Traceback" in log.read_text()


def test_a_killed_program_is_said_to_be_one(tmp_path):
    code = "import os; os.kill(os.getpid(), 9)"
    error = run_with_log(python(code), tmp_path / "log")
    assert error == "It was ended by SIGKILL. The machine may be out of memory."
    silent = run_with_log(python("raise SystemExit(3)"), tmp_path / "other")
    assert silent == "It ended with exit code 3."


SPENT = """
import sys
from pathlib import Path
from mmkeras.experiments.subprocess_run import run_logged
folder = Path(sys.argv[1])
for megabytes in (200, 1):
    code = f"b = bytearray({megabytes} << 20); import time; time.sleep(0.2)"
    words = [sys.executable, "-c", code]
    assert run_logged(words, folder / "log", folder / "spent.json") == ""
    print((folder / "spent.json").read_text())
"""


def test_time_adds_up_over_programs_and_the_most_memory_counts(tmp_path):
    # In a small process: the kernel counts what the parent held at the fork, too.
    words = [sys.executable, "-c", SPENT, str(tmp_path)]
    out = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout
    first, second = [json.loads(line) for line in out.splitlines()]
    assert first["seconds"] >= 0.2 and second["seconds"] >= first["seconds"] + 0.2
    assert 200 < first["peak_mb"] == second["peak_mb"] < 300


PARENT = """
import sys
from pathlib import Path
from mmkeras.experiments.subprocess_run import as_ctrl_c, run_logged
child = '''
import signal, sys, time
def save(*_):
    time.sleep(0.3)
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
'''
as_ctrl_c()
try:
    run_logged([sys.executable, "-c", child], Path(sys.argv[1]), Path(sys.argv[2]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def started(tmp_path, **settings):
    log, spent = tmp_path / "log", tmp_path / "spent.json"
    words = [sys.executable, "-c", PARENT, str(log), str(spent)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, **settings
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and "ready" in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return process, log, spent


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_lets_the_program_save_its_work_first(how, tmp_path):
    process, log, spent = started(tmp_path)
    process.send_signal(how)
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n" and log.read_text() == "ready\nsaved\n"
    assert json.loads(spent.read_text())["seconds"] >= 0.3


def test_ctrl_c_of_a_terminal_reaches_the_program_once(tmp_path):
    process, log, _ = started(tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of a group
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n" and log.read_text() == "ready\nsaved\n"


def test_a_killed_parent_leaves_no_program_behind(tmp_path):
    process, log, _ = started(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while "saved" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_trial_is_planned_with_the_settings_that_its_program_gets(tmp_path):
    flags = ["--preset", "gated", "--epochs", "3"]
    trial = plan_run("gated", tmp_path / "run", Path("data.csv"), flags)
    assert (trial.config.fusion.kind, trial.config.epochs) == ("gated", 3)
    assert trial.command[1:] == [
        *("-m", "mmkeras.train", *flags, "--data", "data.csv"),
        *("--output", str(tmp_path / "run")),
    ]
    assert trial.log == tmp_path / "run.log"
    with pytest.raises(UserError, match="There is no flag '--epohcs'"):
        plan_run("gated", tmp_path, None, ["--epohcs", "3"])


def test_a_finished_run_is_not_started_again(tmp_path, monkeypatch):
    trial = plan_run("gated", tmp_path / "run", None, ["--preset", "gated"])
    monkeypatch.setattr(os, "wait4", None)
    with run_folder.locked_folder(trial.folder):
        run_manifest.write_manifest(trial.folder, finished=True)
    outcome = run_subprocess(trial)
    assert outcome.was_there and not outcome.error and not trial.log.exists()


def test_runs_of_other_settings_are_refused_before_anything_is_trained(tmp_path):
    trial = plan_run("gated", tmp_path / "run", None, ["--preset", "gated"])
    with run_folder.locked_folder(trial.folder):
        (trial.folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
        settings = {"preset": "gated", "epochs": 7}
        run_manifest.write_manifest(
            trial.folder, data=run_folder.EMBEDDED, settings=settings
        )
    with pytest.raises(UserError, match="holds a run with seed=None"):
        check_runs([trial])
