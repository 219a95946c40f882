"""Import of TensorFlow without its C++ log lines at start-up.

TensorFlow 2.21 prints six lines before its logging is initialised, so that
TF_CPP_MIN_LOG_LEVEL has no effect on them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
# Program of a child process that prints its input without absl's INFO and WARNING
# lines. A thread could not print the last line of a process that crashes.
_FILTER = r"""
import re, sys
noise = re.compile(
    rb"(WARNING: All log messages before absl::InitializeLog\(\) .*"
    rb"|[IW]\d{4} \d\d:\d\d:[\d.]+ .*)\n?"
)
for line in sys.stdin.buffer:
    if not noise.fullmatch(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def import_tensorflow() -> None:
    """Imports TensorFlow; programs call it before modules that import TensorFlow.

    Errors of TensorFlow and all output of Python still reach stderr. All lines do if
    the environment sets TF_CPP_MIN_LOG_LEVEL below 3.
    """
    if "tensorflow" in sys.modules:
        return
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "")
    if level and level < "3":
        import tensorflow  # noqa: F401

        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # read once, by the import
    try:
        with filter_stderr():
            import tensorflow  # noqa: F401
    finally:
        if not level:
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]


@contextmanager
def filter_stderr() -> Iterator[None]:
    """Drops log lines of C++ code from descriptor 2."""
    try:
        stderr = os.dup(_STDERR)
    except OSError:  # stderr is closed
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER],
        stdin=subprocess.PIPE,
        start_new_session=True,  # not ended by Ctrl-C
    )
    os.dup2(process.stdin.fileno(), _STDERR)
    process.stdin.close()
    try:
        yield
    finally:
        if sys.stderr:
            sys.stderr.flush()
        os.dup2(stderr, _STDERR)
        os.close(stderr)
        process.wait()
