import json
import uuid
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from mmkeras.config import to_dict
from mmkeras.errors import UserError
from mmkeras.export.saved_model_session import loaded
from mmkeras.training import fit, steps
from pipeline.components import trainer
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.components.test_transform import transformed


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Examples and what Transform found in them, of a small table."""
    folder = tmp_path_factory.mktemp("trainer")
    table = table_factory.write_table(
        folder / "data" / "data.csv", table_factory.make_rows()
    )
    config = table_factory.tiny_config(folder / "cache")
    examples, _ = executor_harness.examples_of(table, config, folder)
    transformed(examples, config, folder)
    return {
        "train_files": [f"{examples.uri}/Split-train/*"],
        "transform_output": str(folder / "graph"),
        "custom_config": {"config": json.dumps(to_dict(config)), "data": str(table)},
    }


@pytest.fixture
def epochs_of(monkeypatch):
    """Counts the epochs that are trained."""
    trained_model = []
    train = fit._train

    def counted(model, batches, val, epochs, callbacks):
        trained_model.extend(epochs)
        train(model, batches, val, epochs, callbacks)

    monkeypatch.setattr(fit, "_train", counted)
    return trained_model


@pytest.mark.e2e
@pytest.mark.parametrize("where", ["local", "remote"])
def test_an_attempt_after_a_failed_one_goes_on_where_that_had_come(
    where, given, tmp_path, epochs_of, monkeypatch
):
    runs = str(tmp_path) if where == "local" else f"ram://{uuid.uuid4().hex}"
    serving = tmp_path / "serving"

    def run(number):
        model_run = f"{runs}/model_run/{number}"
        arguments = {"model_run_dir": model_run, "serving_model_dir": str(serving)}
        trainer.run_fn(FnArgs(**given, **arguments))
        return model_run

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(steps, "export", full)
        run(1)
    assert epochs_of == [0, 1] and not serving.exists()

    # TFX gives another attempt a folder of its own here, and the same on a cluster.
    model_run = run(2 if where == "local" else 1)

    assert epochs_of == [0, 1]  # nothing was trained again
    for name in ("metrics.json", "report.html", "checkpoints", "logs"):
        assert tf.io.gfile.exists(f"{model_run}/{name}")
    with loaded(serving) as call:
        answers = call(
            "serving_default", {m: [b""] for m in ("text", "image", "audio")}
        )
    assert answers["status"][0].count(b"absent") == 3


def test_several_workers_are_refused(given, tmp_path, monkeypatch):
    workers = {"cluster": {"worker": ["a:1", "b:1"]}}
    workers["task"] = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    with pytest.raises(UserError, match="TF_CONFIG names 2 workers"):
        trainer.run_fn(FnArgs(**given, model_run_dir=str(tmp_path / "run")))
    assert not Path(tmp_path / "run").exists()
