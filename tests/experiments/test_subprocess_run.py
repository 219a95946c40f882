import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkeras.config import to_dict
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


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; sys.exit('error: 2 rows:\\n  line 3')", "2 rows:\n  line 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL. The machine may be"),
        ("raise SystemExit(3)", "exited with code 3"),
        ("print('epoch 1', flush=True); 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_the_error_of_a_program_is_returned(tmp_path, code, error):
    log = tmp_path / "log"
    log.write_text("error: of the day before\n")
    assert error in run_with_log(python(code), log)
    assert log.read_text().startswith("error: of the day before\n")
    assert ("epoch 1" in log.read_text()) == ("epoch 1" in code)


SPENT = """
import sys
from pathlib import Path
from mmkeras.experiments.subprocess_run import run_with_log
folder = Path(sys.argv[1])
for megabytes in (200, 1):
    code = f"b = bytearray({megabytes} << 20); import time; time.sleep(0.2)"
    words = [sys.executable, "-c", code]
    assert run_with_log(words, folder / "log", folder / "spent.json") == ""
    print((folder / "spent.json").read_text())
"""


def test_times_are_added_and_the_peak_memory_is_the_maximum(tmp_path):
    # In a small process: the kernel also counts the parent's memory at the fork.
    words = [sys.executable, "-c", SPENT, str(tmp_path)]
    out = subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout
    first, second = [json.loads(line) for line in out.splitlines()]
    assert first["seconds"] >= 0.2 and second["seconds"] >= first["seconds"] + 0.2
    assert 200 < first["peak_mb"] == second["peak_mb"] < 300


PARENT = """
import sys
from pathlib import Path
from mmkeras.experiments import subprocess_run
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
subprocess_run.sigterm_as_keyboard_interrupt()
try:
    command = [sys.executable, "-c", child]
    subprocess_run.run_with_log(command, Path(sys.argv[1]), Path(sys.argv[2]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def start(tmp_path, **settings):
    log, spent = tmp_path / "log", tmp_path / "spent.json"
    words = [sys.executable, "-c", PARENT, str(log), str(spent)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, **settings
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text() == "ready\n"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return process, log, spent


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_lets_the_program_save_its_work_first(name, tmp_path):
    process, log, spent = start(tmp_path)
    process.send_signal(signal.Signals[name])
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n" and log.read_text() == "ready\nsaved\n"
    assert json.loads(spent.read_text())["seconds"] >= 0.3


def test_ctrl_c_of_a_terminal_reaches_the_program_once(tmp_path):
    process, log, _ = start(tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of a group
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n" and log.read_text() == "ready\nsaved\n"


def test_a_killed_parent_leaves_no_program_behind(tmp_path):
    process, log, _ = start(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while "saved" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_is_planned_with_the_settings_of_its_program(tmp_path):
    flags = ["--preset", "gated", "--epochs", "3"]
    run = plan_run("gated", tmp_path / "run", Path("data.csv"), flags)
    assert (run.config.fusion.kind, run.config.epochs) == ("gated", 3)
    assert run.command[1:] == [
        *("-m", "mmkeras.train", *flags, "--data", "data.csv"),
        *("--output", str(tmp_path / "run")),
    ]
    assert run.log == tmp_path / "run.log"
    with pytest.raises(UserError, match="no flag '--epohcs'"):
        plan_run("gated", tmp_path, None, ["--epohcs", "3"])


@pytest.fixture
def run(tmp_path):
    run = plan_run("gated", tmp_path / "run", None, ["--preset", "gated"])
    (run.folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
    return run


def test_a_finished_run_is_not_started_again(run, monkeypatch):
    monkeypatch.setattr(os, "wait4", None)
    run_manifest.write_manifest(run.folder, finished=True)
    outcome = run_subprocess(run)
    assert outcome.was_finished and not outcome.error and not run.log.exists()


def test_runs_with_other_settings_are_refused(run):
    settings = to_dict(run.config) | {"seed": 5}
    run_manifest.write_manifest(
        run.folder, data=run_folder.DEMO_DATA, settings=settings
    )
    with pytest.raises(UserError, match="holds a run with seed=5"):
        check_runs([run])
