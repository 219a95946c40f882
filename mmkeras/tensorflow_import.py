"""Import of TensorFlow without the log lines that its C++ code prints at start-up.

TensorFlow 2.21 prints six lines before its logging is initialised, so that
TF_CPP_MIN_LOG_LEVEL has no effect on them.
"""

import faulthandler
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_STDERR = 2
# Lines of absl's log of severity INFO or WARNING, and its note about itself.
_NOISE = re.compile(
    rb"(WARNING: All log messages before absl::InitializeLog\(\) .*"
    rb"|[IW]\d{4} \d\d:\d\d:[\d.]+ .*)\n?"
)


def import_tensorflow() -> None:
    """Imports TensorFlow; programs call it before modules that import TensorFlow.

    Errors that TensorFlow prints, and all that Python prints, still reach stderr. If
    the import kills the process (no AVX, for one), Python's stack is printed there.
    """
    if "tensorflow" in sys.modules:
        return
    with filtered_stderr():
        import tensorflow  # noqa: F401


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Holds back what is written to descriptor 2; prints it at the end, less noise."""
    try:
        stderr = os.dup(_STDERR)
    except OSError:  # closed, so that nothing can be printed
        yield
        return
    sys.stderr.flush()
    was_enabled = faulthandler.is_enabled()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        if not was_enabled:
            faulthandler.enable(file=stderr)
        try:
            yield
        finally:
            if not was_enabled:
                faulthandler.disable()
            sys.stderr.flush()
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            _print_errors(held)


def _print_errors(held: IO[bytes]) -> None:
    held.seek(0)
    for line in held:
        if not _NOISE.fullmatch(line):
            os.write(_STDERR, line)
