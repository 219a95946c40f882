import os
import subprocess

from pipeline.runtime.progress import redirect_output
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
