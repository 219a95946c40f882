import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
from tfx.orchestration.portable import launcher

from mmkeras.cli import interruptible
from pipeline.runtime.progress import Progress, redirect_output, report_progress
from tests.pipeline.screen import captured_screen


def test_the_screen_has_a_line_for_each_component_and_the_file_the_rest(tmp_path):
    log = tmp_path / "logs" / "run.log"
    with captured_screen() as lines:
        with redirect_output(log, 2) as progress:
            for name, cached in (("ExampleGen", False), ("Trainer", True)):
                progress.begin(name)
                print(f"print of {name}")
                os.write(2, b"from C++\n")
                subprocess.run(["echo", "a child"], check=True)
                progress.end(cached)
        print("after")
    first, second, after = lines
    assert first.startswith("[ 1/2] ExampleGen ") and first.endswith(" s")
    assert second.split() == "[ 2/2] Trainer from the cache".split()
    assert after == "after"
    text = log.read_text()
    for line in ("print of ExampleGen", "from C++", "a child", "print of Trainer"):
        assert line in text


def test_output_that_a_full_disk_refuses_is_dropped_without_an_error(tmp_path):
    (tmp_path / "run.log").symlink_to("/dev/full")
    with captured_screen() as lines:
        with redirect_output(tmp_path / "run.log", 1) as progress:
            progress.begin("Trainer")
            print("print of Trainer")  # remains in Python's buffer
            progress.end(False)
        print("after")
    first, after = lines
    assert first.startswith("[ 1/1] Trainer ") and after == "after"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_ends_the_run(number, monkeypatch):
    class SwallowingLauncher:
        def __init__(self, name):
            self._pipeline_node = SimpleNamespace(node_info=SimpleNamespace(id=name))
            self._system_node_handler = None

        def launch(self):
            launched.append(self._pipeline_node.node_info.id)
            with suppress(KeyboardInterrupt):
                signal.raise_signal(number)

    launched = []
    before = signal.getsignal(number)
    monkeypatch.setattr(launcher, "Launcher", SwallowingLauncher)
    progress = Progress(sys.stdout, 2)
    with interruptible() as signals, report_progress(progress, signals):
        for name in ("ExampleGen", "Transform"):
            with pytest.raises(KeyboardInterrupt):
                launcher.Launcher(name).launch()
    assert launched == ["ExampleGen"] and progress.current == "Transform"
    assert signal.getsignal(number) == before
