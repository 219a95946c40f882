"""Import of TensorFlow without the log lines that its C++ code prints at start-up.

TensorFlow 2.21 prints six lines before its logging is initialised, so that
TF_CPP_MIN_LOG_LEVEL has no effect on them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
# Program of a child process, which prints every line of its input but absl's log lines
# of severity INFO or WARNING, and absl's note about itself. A thread could not print
# the last line of a process that crashes.
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

    Errors that TensorFlow prints, and all that Python prints, still reach stderr. All
    lines do if the environment sets TF_CPP_MIN_LOG_LEVEL below 3.
    """
    if "tensorflow" in sys.modules:
        return
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3") < "3":
        import tensorflow  # noqa: F401
    else:
        with filter_stderr():
            import tensorflow  # noqa: F401


@contextmanager
def filter_stderr() -> Iterator[None]:
    """Drops log lines of C++ code from what is written to descriptor 2."""
    try:
        stderr = os.dup(_STDERR)
    except OSError:  # closed, so that nothing can be printed
        yield
        return
    printer = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C ends this process alone
    )
    os.dup2(printer.stdin.fileno(), _STDERR)
    printer.stdin.close()
    try:
        yield
    finally:
        if sys.stderr:
            sys.stderr.flush()
        os.dup2(stderr, _STDERR)
        os.close(stderr)
        printer.wait()
