import json
import uuid

import keras_tuner
import pytest
import tensorflow as tf
import yaml
from tfx.components.trainer.fn_args_utils import FnArgs

from mmkeras.config import to_dict
from mmkeras.errors import UserError
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.training import fit, steps
from pipeline.components import trainer
from tests.pipeline import executor_harness


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Arguments of run_fn for a small table."""
    base = tmp_path_factory.getbasetemp() / "small"
    table, config, examples = executor_harness.small(base)
    graph, _ = executor_harness.small_transformed(base)
    return {
        "train_files": [f"{examples.uri}/Split-train/*"],
        "transform_output": graph.uri,
        "custom_config": {"config": json.dumps(to_dict(config)), "data": str(table)},
    }


@pytest.fixture
def epochs(monkeypatch):
    """The epochs that were trained."""
    result = []
    train = fit.train_epochs

    def recorded(model, batches, val, epochs, *more):
        result.extend(epochs)
        train(model, batches, val, epochs, *more)

    monkeypatch.setattr(fit, "train_epochs", recorded)
    return result


@pytest.mark.parametrize(
    "is_remote",
    [pytest.param(False, marks=pytest.mark.slow), True],  # test_local.py has the first
)
def test_a_second_attempt_resumes_the_first(
    is_remote, arguments, tmp_path, epochs, monkeypatch
):
    runs = f"ram://{uuid.uuid4().hex}" if is_remote else str(tmp_path)
    serving = tmp_path / "serving"

    def run(number):
        model_run = f"{runs}/model_run/{number}"
        folders = {"model_run_dir": model_run, "serving_model_dir": str(serving)}
        trainer.run_fn(FnArgs(**arguments, **folders))
        return model_run

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(steps, "export", full)
        run(1)
    assert epochs == [0, 1] and not serving.exists()

    # TFX gives the next attempt a new folder locally, and the same one on a cluster.
    model_run = run(1 if is_remote else 2)

    assert epochs == [0, 1]  # no epoch is repeated
    for name in ("metrics.json", "report.html", "checkpoints", "logs"):
        assert tf.io.gfile.exists(f"{model_run}/{name}")
    rows = {m: [b""] for m in ("text", "image", "audio")}
    with load_saved_model(serving) as call:
        assert call("serving_default", rows)["status"][0].count(b"absent") == 3


def test_the_best_hyperparameters_of_tuner_are_used(arguments, tmp_path, monkeypatch):
    values = {"learning_rate": 0.003, "fusion_units": 5}
    values |= {"fusion_dropout": 0.2, "modality_dropout": 0.15}
    hyperparameters = keras_tuner.HyperParameters()
    for name, value in values.items():
        hyperparameters.Fixed(name, value)

    def stop(folder, run_data):
        raise InterruptedError

    monkeypatch.setattr(trainer, "train_on", stop)
    folder = tmp_path / "run"
    with pytest.raises(InterruptedError):
        trainer.run_fn(
            FnArgs(
                **arguments,
                model_run_dir=str(folder),
                hyperparameters=hyperparameters.get_config(),
            )
        )
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["train"]["learning_rate"] == 0.003
    assert settings["fusion"]["units"] == 5
    assert settings["fusion"]["modality_dropout"] == 0.15


def test_several_workers_are_an_error(arguments, tmp_path, monkeypatch):
    workers = {"cluster": {"worker": ["a:1", "b:1"]}}
    workers["task"] = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    with pytest.raises(UserError, match="TF_CONFIG names 2 workers"):
        trainer.run_fn(FnArgs(**arguments, model_run_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
