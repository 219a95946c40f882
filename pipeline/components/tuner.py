"""Tuner: TFX's tuner_fn, a random search over learning rate, width and dropouts."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import keras_tuner
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from mmkeras.config import Config, from_dict
from mmkeras.config.schedule import with_schedule
from mmkeras.config.validation import AUTO
from mmkeras.schema import TRAIN
from mmkeras.training import run_folder
from mmkeras.training.distributed import strategy
from mmkeras.training.steps import fit_model
from pipeline.components.trainer import check_single_worker, prepare, read_dataset
from pipeline.settings import (
    FUSION_DROPOUT,
    FUSION_UNITS,
    LEARNING_RATE,
    MODALITY_DROPOUT,
    TuneConfig,
    tuned,
)

_OBJECTIVE = "val_loss"


class _Space(keras_tuner.HyperModel):
    """Search space; the trials build their models themselves."""

    def __init__(self, tune: TuneConfig):
        super().__init__()
        self.tune = tune

    def build(self, hp):
        tune = self.tune
        low, high = tune.learning_rate_low, tune.learning_rate_high
        hp.Float(LEARNING_RATE, low, high, sampling="log")
        hp.Choice(FUSION_UNITS, list(tune.width_choices))
        hp.Float(FUSION_DROPOUT, 0.0, tune.dropout_high, step=0.1)
        hp.Choice(MODALITY_DROPOUT, [0.0, 0.15, 0.3])


class MultimodalTuner(keras_tuner.RandomSearch):
    """Random search whose trials are shorter training runs."""

    def __init__(self, config: Config, fn_args: FnArgs, folder: Path, **settings):
        self.config, self.fn_args, self.trials_folder = config, fn_args, folder
        super().__init__(**settings)

    def search(self, *args, **kwargs) -> None:
        """Runs the trials; KerasTuner alone would go on if all of them failed.

        Raises:
            RuntimeError: No trial has finished.
        """
        super().search(*args, **kwargs)
        (best,) = self.oracle.get_best_trials(1)
        if best.status != "COMPLETED":  # only failed trials are left
            raise RuntimeError(f"No trial has finished. One of them: {best.message}")

    def run_trial(self, trial, *args, **kwargs) -> dict[str, float]:
        """Trains one model and returns its best value of the objective."""
        config = tuned(self.config, trial.hyperparameters.values)
        folder = self.trials_folder / f"trial-{trial.trial_id}"
        with run_folder.locked_folder(folder):
            run_data = prepare(folder, config, self.fn_args, "a trial")
            _, history = fit_model(folder, run_data)
        return {_OBJECTIVE: min(epoch[_OBJECTIVE] for epoch in history)}


def _scheduled(tune, config, fn_args) -> Config:
    """Returns the settings of a trial: a third of the epochs, or those of `tune`."""
    if tune.epochs != AUTO:
        return replace(config, epochs=tune.epochs)
    rows = read_dataset(fn_args).rows[TRAIN]
    config = with_schedule(config, rows, strategy().num_replicas_in_sync)
    return replace(config, epochs=-(-config.epochs // 3))


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Returns the search for TFX to run."""
    check_single_worker()
    tune = TuneConfig(**json.loads(fn_args.custom_config["tune"]))
    config = from_dict(json.loads(fn_args.custom_config["config"]))
    folder = Path(tempfile.mkdtemp(prefix="mmkeras-tuner-"))  # working_dir may be a URI
    search = MultimodalTuner(
        _scheduled(tune, config, fn_args),
        fn_args,
        folder,
        hypermodel=_Space(tune),
        objective=keras_tuner.Objective(_OBJECTIVE, "min"),
        max_trials=tune.trials,
        seed=config.seed,
        directory=str(folder),
        project_name="search",
        overwrite=True,
    )
    return TunerFnResult(tuner=search, fit_kwargs={})
