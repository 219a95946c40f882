"""Screen of a program that runs in the test process and redirects its output."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def captured_screen() -> Iterator[list[str]]:
    """Yields a list that has the lines written to file descriptor 1 after the block.

    `print` writes to the descriptor as well, as in a process without pytest.
    """
    lines, screen = [], os.dup(1)
    with tempfile.TemporaryFile("w+") as output:
        try:
            os.dup2(output.fileno(), 1)
            with open(1, "w", closefd=False) as stdout, redirect_stdout(stdout):
                yield lines
        finally:
            os.dup2(screen, 1)
            os.close(screen)
            output.seek(0)
            lines += output.read().splitlines()
