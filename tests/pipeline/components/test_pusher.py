import json
import threading
import time
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from pipeline.components import pusher
from tests.pipeline import executor_harness


@pytest.fixture
def push(tmp_path):
    """Pushes a model of one big and one small file; returns the artifact."""
    source = tmp_path / "model" / "Format-Serving"
    source.mkdir(parents=True)
    (source / "variables").mkdir()
    (source / "variables" / "weights").write_bytes(b"w" * 50_000_000)

    def one(blessed=1, graph=b"graph"):
        (source / "saved_model.pb").write_bytes(graph)
        model = executor_harness.artifact(standard_artifacts.Model, tmp_path / "model")
        blessing = executor_harness.artifact(
            standard_artifacts.ModelBlessing, tmp_path / "b"
        )
        blessing.set_int_custom_property("blessed", blessed)
        pushed = executor_harness.artifact(
            standard_artifacts.PushedModel, tmp_path / "pushed"
        )
        base = {"filesystem": {"base_directory": str(tmp_path / "serving")}}
        pusher.Executor().Do(
            {"model": [model], "model_blessing": [blessing]},
            {"pushed_model": [pushed]},
            {"push_destination": json.dumps(base)},
        )
        return pushed

    return one


def test_a_version_appears_whole(push, tmp_path):
    seen, stop = set(), threading.Event()

    def poll():  # as TF Serving does, only faster
        while not stop.is_set():
            for path in (tmp_path / "serving").glob("[0-9]*"):
                files = sorted(p.name for p in path.rglob("*") if p.is_file())
                sizes = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                seen.add((tuple(files), sizes))
            time.sleep(0.0005)

    watcher = threading.Thread(target=poll)
    watcher.start()
    push()
    time.sleep(0.05)
    stop.set()
    watcher.join()
    assert seen == {(("saved_model.pb", "weights"), 50_000_005)}


def test_each_push_is_a_newer_version(push, tmp_path):
    pushed = [push(graph=graph) for graph in (b"a", b"b", b"a", b"a")]
    *versions, again = [p.get_string_custom_property("pushed_version") for p in pushed]
    assert sorted(set(versions), key=int) == versions
    assert again == versions[-1]  # what is the newest already is not pushed twice
    found = sorted(path.name for path in (tmp_path / "serving").iterdir())
    assert found == versions  # and nothing is left aside


def test_a_model_that_is_not_blessed_is_not_pushed(push, tmp_path):
    assert push(blessed=0).get_int_custom_property("pushed") == 0
    assert not Path(tmp_path / "serving").exists()
