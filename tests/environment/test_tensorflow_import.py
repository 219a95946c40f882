import os
import re
import subprocess
import sys

import pytest

from mmkeras.environment.tensorflow_import import filter_stderr


def output_of(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_import_prints_nothing_and_later_output_is_printed():
    result = output_of("""
import sys
from mmkeras.environment.tensorflow_import import import_tensorflow
import_tensorflow()
assert "tensorflow" in sys.modules
import tensorflow as tf
tf.reduce_sum(tf.ones([3]))
print("later", file=sys.stderr)
""")
    assert (result.returncode, result.stderr) == (0, "later\n")


def test_only_lines_of_info_and_warning_are_dropped(capfd):
    noise = (
        b"WARNING: All log messages before absl::InitializeLog() is called are "
        b"written to STDERR\n"
        b"I0000 00:00:1795878140.712263   10366 port.cc:153] oneDNN is on.\n"
        b"W1128 15:02:20.553352   10366 stub.cc:31] Could not find drivers.\n"
    )
    errors = (
        b"E0000 00:00:1795878140.712263   10366 dso.cc:1] cannot open it\n"
        b"F1128 15:02:20.553352   10366 cpu.cc:31] needs AVX\n"
        b"Illegal value: I0000\n"
    )
    with filter_stderr():
        os.write(2, noise + errors + noise)
    assert capfd.readouterr().err == errors.decode()


@pytest.mark.parametrize(
    ("ending", "err"),
    [
        ("raise ImportError('libcuda')", r"F0000 .* AVX\nTraceback.*: libcuda\n"),
        ("os.abort()", r"F0000 .* AVX\n"),
    ],
)
def test_errors_before_an_exception_or_a_crash_are_printed(ending, err):
    result = output_of(f"""
import os
from mmkeras.environment.tensorflow_import import filter_stderr
with filter_stderr():
    os.write(2, b"I0000 00:00:1.5 1 a.cc:1] noise\\n")
    os.write(2, b"F0000 00:00:1.5 1 cpu.cc:1] compiled to use AVX\\n")
    {ending}
""")
    assert result.returncode != 0
    assert re.fullmatch(err, result.stderr, re.DOTALL)


def test_the_environment_can_keep_the_log(monkeypatch):
    code = """
from mmkeras.environment.tensorflow_import import import_tensorflow
import_tensorflow()
"""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert "oneDNN" in output_of(code).stderr


def test_a_closed_stderr_is_no_error():
    result = output_of("""
import os
from mmkeras.environment.tensorflow_import import filter_stderr
os.close(2)
with filter_stderr():
    print("done")
""")
    assert (result.returncode, result.stdout) == (0, "done\n")
