import os
import subprocess
import sys
from pathlib import Path

from absl import logging

from pipeline.runtime.progress import redirect_output

ROOT = Path(__file__).parents[3]


def noisy(log):
    """What TFX says of two components, among noise of every kind."""
    with redirect_output(log, 2) as progress:
        for name, cached in (("ExampleGen", False), ("Trainer", True)):
            progress.begin(name)
            logging.warning("a warning of %s", name)
            print("some print")
            os.write(2, b"from C++\n")
            subprocess.run(["echo", "a child"], check=True)
            progress.end(cached)
    print("after")
    return progress


def test_the_screen_has_one_line_a_component_and_the_file_the_rest(tmp_path):
    code = "import sys; from pathlib import Path\n"
    code += "from mmkeras.environment.tensorflow_import import import_tensorflow\n"
    code += "import_tensorflow()\n"
    code += "from tests.pipeline.runtime.test_progress import noisy\n"
    code += "noisy(Path(sys.argv[1]))"
    log = tmp_path / "logs" / "run.log"
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, after = done.stdout.splitlines()
    assert first.startswith("[ 1/2] ExampleGen ") and first.endswith(" s")
    assert second.split() == "[ 2/2] Trainer from the cache".split()
    assert after == "after" and done.stderr == ""
    text = log.read_text()
    for said in ("some print", "from C++", "a child", "a warning of Trainer"):
        assert said in text
