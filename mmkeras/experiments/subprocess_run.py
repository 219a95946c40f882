"""A training run in a process of its own: started, watched, ended with this one.

Its memory is its own, and its crash is its own. Beside the run folder `NAME` lie its
log, `NAME.log`, and what it has cost so far, `NAME.spent.json`.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras import files
from mmkeras.cli import Parser, add_settings, choose_preset, settings
from mmkeras.config import Config
from mmkeras.training import run_folder

_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2): should this process be killed
_ERROR = "error: "  # as run_program begins its line


@dataclass(frozen=True, kw_only=True)
class SubprocessRun:
    """What `python -m mmkeras.train` is to do.

    Attributes:
        name: What a line of progress calls it.
        folder: The run folder.
        table: None is the embedded data set.
        flags: Settings, as a command line has them.
        config: The same settings, parsed.
    """

    name: str
    folder: Path
    table: Path | None
    flags: tuple[str, ...]
    config: Config

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def spent(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.spent.json")

    @property
    def command(self) -> list[str]:
        data = ["--data", str(self.table)] if self.table else []
        words = [*self.flags, *data, "--output", str(self.folder)]
        return [sys.executable, "-m", "mmkeras.train", *words]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a trial ended.

    Attributes:
        error: What the program said of it, in one line or several; "" for none.
        seconds: In all processes that the run took.
        peak_mb: Most memory that one of them held.
        was_there: Whether the run was finished before.
    """

    error: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    was_there: bool = False


def plan_run(
    name: str, folder: Path, table: Path | None, flags: Sequence[str]
) -> SubprocessRun:
    """Parses the settings of a trial.

    Raises:
        UserError: There is no such setting or value.
    """
    parser = Parser()
    add_settings(parser, choose_preset(flags))
    config = settings(parser, parser.parse_args(flags))
    return SubprocessRun(
        name=name, folder=folder, table=table, flags=tuple(flags), config=config
    )


def check_runs(trials: Sequence[SubprocessRun]) -> None:
    """Refuses to go on with runs of other settings, before any is trained.

    Raises:
        UserError: As `run.check_same`.
    """
    for trial in trials:
        run_folder.check_unchanged(
            trial.folder, trial.config, run_folder.data_name(trial.table)
        )


def run_subprocess(trial: SubprocessRun) -> RunOutcome:
    """Trains, or goes on; a run that is finished already is left as it is.

    Raises:
        KeyboardInterrupt: After the run has been told so, and has ended.
    """
    if run_folder.is_finished(trial.folder):
        return RunOutcome(was_there=True, **_read_spent(trial.spent))
    error = run_with_log(trial.command, trial.log, trial.spent)
    return RunOutcome(error=error, **_read_spent(trial.spent))


def run_with_log(command: Sequence[str], log: Path, spent: Path | None = None) -> str:
    """Runs a program that writes to a log; returns its error, "" where there is none.

    Args:
        command: The words.
        log: What the program prints is appended to it.
        spent: File of what programs before it have cost, to which it adds.

    Raises:
        KeyboardInterrupt: After the program has been told so, and has ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("ab") as file:
        before = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches it from here, and once
            preexec_fn=_end_with_parent(),
        )
    peak_mb, interrupted = _wait(process)
    if spent is not None:
        _add_spent(spent, time.perf_counter() - start, peak_mb)
    if interrupted:
        raise KeyboardInterrupt
    return _error(log.read_bytes()[before:], process.returncode)


def _end_with_parent() -> Callable[[], None] | None:
    """Returns what a new process calls so that it ends when this one is killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def sigterm_as_keyboard_interrupt() -> None:
    """Lets signals that end a program reach it as Ctrl-C does."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(name, signal.default_int_handler)


def _wait(process) -> tuple[float, bool]:
    """Returns the most memory it held, in MB, and whether Ctrl-C has ended it.

    The kernel counts at least what this process itself held when it forked.
    """
    interrupted = False
    while True:
        try:
            _, status, usage = os.wait4(process.pid, 0)
            break
        except KeyboardInterrupt:  # once, and it saves its work first
            again = signal.SIGKILL if interrupted else signal.SIGTERM
            os.kill(process.pid, again)
            interrupted = True
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss / 1024, interrupted


def _error(said: bytes, code: int) -> str:
    if code == 0:
        return ""
    if code < 0:
        what = f"It was ended by {signal.Signals(-code).name}."
        out_of_memory = " The machine may be out of memory."
        return what + (out_of_memory if code == -signal.SIGKILL else "")
    lines = said.decode("utf-8", "replace").strip().splitlines()
    for i, line in enumerate(lines):
        if line.startswith(_ERROR):
            return "\n".join([line.removeprefix(_ERROR), *lines[i + 1 :]])
    return lines[-1] if lines else f"It ended with exit code {code}."


def _read_spent(path: Path) -> dict[str, float]:
    return json.loads(path.read_text()) if path.exists() else {}


def _add_spent(path: Path, seconds: float, peak_mb: float) -> None:
    before = {"seconds": 0.0, "peak_mb": 0.0, **_read_spent(path)}
    seconds += before["seconds"]
    spent = {"seconds": seconds, "peak_mb": max(peak_mb, before["peak_mb"])}
    files.write_text(path, json.dumps(spent))
