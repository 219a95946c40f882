import json
import threading
import time
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from pipeline.components import pusher
from tests.pipeline import executor_harness

SIZE = 20_000_000  # bytes; slow enough to be seen half copied


@pytest.fixture
def push(tmp_path):
    """Returns a function that pushes a model of one large and one small file."""
    source = tmp_path / "model" / "Format-Serving"
    source.mkdir(parents=True)
    (source / "variables").mkdir()
    (source / "variables" / "weights").write_bytes(b"w" * SIZE)

    def push(blessed=1, graph=b"graph"):
        (source / "saved_model.pb").write_bytes(graph)
        inputs = executor_harness.artifacts(
            tmp_path,
            model=standard_artifacts.Model,
            model_blessing=standard_artifacts.ModelBlessing,
        )
        inputs["model_blessing"][0].set_int_custom_property("blessed", blessed)
        outputs = executor_harness.artifacts(
            tmp_path, pushed_model=standard_artifacts.PushedModel
        )
        base = {"filesystem": {"base_directory": str(tmp_path / "serving")}}
        properties = {"push_destination": json.dumps(base)}
        pusher.Executor().Do(inputs, outputs, properties)
        return outputs["pushed_model"][0]

    return push


def test_a_version_appears_complete(push, tmp_path):
    states, stop = set(), threading.Event()

    def poll():  # as TF Serving does
        while not stop.is_set():
            for path in (tmp_path / "serving").glob("[0-9]*"):
                files = sorted(p.name for p in path.rglob("*") if p.is_file())
                sizes = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                states.add((tuple(files), sizes))
            time.sleep(0.0005)

    watcher = threading.Thread(target=poll)
    watcher.start()
    push()
    time.sleep(0.05)
    stop.set()
    watcher.join()
    assert states == {(("saved_model.pb", "weights"), SIZE + 5)}


def test_each_push_is_a_newer_version(push, tmp_path):
    pushed = [push(graph=graph) for graph in (b"a", b"b", b"a", b"a")]
    *versions, again = [p.get_string_custom_property("pushed_version") for p in pushed]
    assert sorted(set(versions), key=int) == versions
    assert again == versions[-1]  # the latest version is not pushed twice
    names = sorted(path.name for path in (tmp_path / "serving").iterdir())
    assert names == versions  # without temporary files


def test_a_model_that_is_not_blessed_is_not_pushed(push, tmp_path):
    assert push(blessed=0).get_int_custom_property("pushed") == 0
    assert not Path(tmp_path / "serving").exists()
