"""Search for settings: trials with successive halving, kept in a journal on disk."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mmkeras.config import Config, flatten, to_dict
from mmkeras.config.schedule import with_schedule
from mmkeras.console import output, say
from mmkeras.data.dataset import Dataset
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.errors import UserError, one_line
from mmkeras.evaluation.ensemble_weights import mean_loss
from mmkeras.evaluation.scores import score
from mmkeras.experiments.search_folder import (
    COMPLETE,
    FAILED,
    PRUNED,
    STOPPED,
    TRIALS_DIR,
    TrialResult,
)
from mmkeras.experiments.search_space import SearchSpace
from mmkeras.reports.score_text import score_text
from mmkeras.schema import CHECKPOINTS_DIR, MODEL_FILE, TRAIN
from mmkeras.training.ensemble import predict_validation
from mmkeras.training.prepare_run import write_run_header
from mmkeras.training.process_state import OutOfMemoryError
from mmkeras.training.steps import fit_model

JOURNAL_FILE, PREDICTIONS_FILE = "trials.log", "validation.npz"
KEPT = 12  # complete trials whose models stay on disk: the best ones
_STUDY, _RESULT = "mmkeras", "result"
# A trial is pruned unless it is in the best third after a sixth of the epochs, but not
# before the end of the warm-up, and again after three times as many.
_RUNGS, _REDUCTION = 6, 3
_RANDOM_TRIALS = 8  # before the sampler follows the results
_MAX_REPEATED = 50  # choices in a row that were tried before: the space is small


class _OutOfTimeError(Exception):
    """The time of a search is over."""


class _Report(keras.callbacks.Callback):
    """Reports the lowest validation loss so far; ends a trial that is worse or late."""

    def __init__(self, trial: optuna.Trial, end_s: float):
        super().__init__()
        self.trial, self.end_s = trial, end_s
        self.epochs, self.lowest = 0, math.inf  # of both phases

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.end_s:
            raise _OutOfTimeError

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        # Not the loss, which depends on the label smoothing.
        value = float(logs.get("val_log_loss", logs["val_loss"]))
        # The lowest so far, as an accurate model becomes overconfident, which its
        # calibration corrects in the end. NaN is never the lowest.
        self.lowest = min(self.lowest, value)
        self.trial.report(self.lowest, self.epochs)
        # It is called for the first trial too, with which later ones are compared.
        is_worse = self.trial.should_prune()
        if is_worse and self.end_s < math.inf:
            raise optuna.TrialPruned


class Search:
    """The trials of a search in a folder, those of earlier processes too.

    Attributes:
        config: Settings of the first trial.
        is_exhausted: Whether all that can be tried was tried.

    Example:
        search = Search(folder, space, dataset, "data.csv")
        search.run(minutes=10)
        search.complete()[0]  # the best trial
    """

    def __init__(self, folder: Path, space: SearchSpace, dataset: Dataset, data: str):
        """Opens the journal; `data` is the name of the rows in manifests."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space = folder, space
        self.dataset, self.data = dataset, data
        self.config = next(iter(space.candidates.values())).config  # of the first trial
        self.is_exhausted = False
        epochs = with_schedule(self.config, dataset.rows[TRAIN]).epochs
        first_rung = math.ceil(self.config.train.warmup_epochs) + 1
        backend = JournalFileBackend(str(folder / JOURNAL_FILE))
        self._study = optuna.create_study(
            storage=JournalStorage(backend),
            study_name=_STUDY,
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=max(first_rung, epochs // _RUNGS),
                reduction_factor=_REDUCTION,
            ),
            load_if_exists=True,
        )

    def _all_results(self) -> list[TrialResult]:
        attributes = (trial.user_attrs for trial in self._study.trials)
        return [TrialResult(**x[_RESULT]) for x in attributes if _RESULT in x]

    def results(self) -> list[TrialResult]:
        """Returns the results by number; of a trial that was run again, the last."""
        latest = {result.number: result for result in self._all_results()}
        return [latest[number] for number in sorted(latest)]

    def complete(self) -> list[TrialResult]:
        """Returns the complete trials, the best first."""
        results = [r for r in self.results() if r.state == COMPLETE]
        return sorted(results, key=lambda result: result.loss)

    @property
    def seconds(self) -> float:
        """Time of all trials."""
        return sum(result.seconds for result in self._all_results())

    def trial_folder(self, result: TrialResult) -> Path:
        return self.folder / TRIALS_DIR / result.folder_name

    def run(self, minutes: float, trials: int = 0) -> None:
        """Runs trials until time or number is over, or nothing else can be tried.

        The first trials have the default settings of each preset. The very first is
        finished in any case; others end when the time is over.
        """
        repeated = 0
        while not self.is_exhausted:
            done = [r for r in self.results() if r.state != STOPPED]
            left_s = 60 * minutes - self.seconds if done else math.inf
            if left_s <= 0 or (trials and len(done) >= trials):
                break
            trial = self._ask(len(done), repeated)
            is_new = self._run(trial, done, time.monotonic() + left_s)
            repeated = 0 if is_new else repeated + 1
            self.is_exhausted = repeated >= _MAX_REPEATED

    def _ask(self, number: int, repeated: int) -> optuna.Trial:
        """Returns the next trial: one that was not finished, a default, or a new one.

        The sampler has a seed for each trial, so that a search that was interrupted
        goes on as if it had not been.
        """
        interrupted = self._study.get_trials(states=[TrialState.RUNNING])
        for trial in interrupted:
            self._study.tell(trial.number, state=TrialState.FAIL)
        presets = list(self.space.candidates)
        if interrupted and interrupted[-1].params:
            self._study.enqueue_trial(interrupted[-1].params)
        elif number < len(presets):
            self._study.enqueue_trial(self.space.defaults(presets[number]))
        seed = (self.config.seed * 1009 + number) * _MAX_REPEATED + repeated
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32, n_startup_trials=_RANDOM_TRIALS
        )
        return self._study.ask()

    def _run(self, trial, done: Sequence[TrialResult], end_s: float) -> bool:
        """Runs a trial, and returns whether it was none of those before."""
        try:
            config = self.space.suggest(trial)
        except UserError:  # its settings do not go together
            config = None
        digest = _digest(config) if config else ""
        if config is None or digest in {result.digest for result in done}:
            self._study.tell(trial, state=TrialState.FAIL)
            return False
        settings = _changes(config, self.space.candidates[config.preset].config)
        result = TrialResult(
            number=len(done), preset=config.preset, settings=settings, digest=digest
        )
        say(f"[{result.number}] {result.name}: ", end="", flush=True)
        start, report = time.monotonic(), _Report(trial, end_s)
        try:
            result = self._train(result, config, report)
        except optuna.TrialPruned:
            result = replace(result, state=PRUNED)
        except _OutOfTimeError:  # it has the state STOPPED
            pass
        except (UserError, OutOfMemoryError) as error:
            if not done:
                raise
            result = replace(result, state=FAILED, error=one_line(error))
        finally:
            keras.utils.clear_session()
        seconds = time.monotonic() - start
        result = replace(result, epochs=report.epochs, seconds=seconds)
        trial.set_user_attr(_RESULT, asdict(result))
        self._tell(trial, result)
        say(describe(result, self.config.task))
        return True

    def _tell(self, trial, result) -> None:
        """Ends a trial; one that was stopped stays open, and is run again."""
        if result.state == COMPLETE:
            self._study.tell(trial, result.loss)
        elif result.state != STOPPED:
            states = {PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
            self._study.tell(trial, state=states[result.state])
        kept = [r.number for r in self.complete()[:KEPT]] + [0]
        for done in self.results():
            if done.number not in kept:
                folder = self.trial_folder(done)
                (folder / MODEL_FILE).unlink(missing_ok=True)
                shutil.rmtree(folder / CHECKPOINTS_DIR, ignore_errors=True)

    def _train(self, result, config, report) -> TrialResult:
        folder = self.trial_folder(result)
        shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted trial
        folder.mkdir(parents=True)
        with output(verbose=False):
            state = fit_preprocessing(self.dataset, config)  # equal ones once
            run_data = write_run_header(folder, config, self.dataset, state, self.data)
            run_data = replace(run_data, callbacks=(report,))
            trained_model, _ = fit_model(folder, run_data)
            predictions, targets = predict_validation(trained_model, self.dataset)
        task = run_data.state.task
        loss = mean_loss(predictions, targets, task)
        if not math.isfinite(loss):
            raise UserError("its predictions are no numbers")
        (value,), _ = score(task, targets, [predictions], 1, 0)
        np.savez(folder / PREDICTIONS_FILE, targets=targets, predictions=predictions)
        return replace(result, state=COMPLETE, loss=loss, score=float(value))


def describe(result: TrialResult, task: str) -> str:
    """Returns what came of a trial, for the line of its name."""
    spent = f"{result.epochs} epochs, {result.seconds:.0f} s"
    if result.state == COMPLETE:
        name = score_text(task).name
        return f"loss {result.loss:.3f}, {name} {result.score:.3f} ({spent})"
    return f"{result.state} ({spent}){': ' * bool(result.error)}{result.error}"


def _changes(config: Config, base: Config) -> dict[str, Any]:
    """Returns the settings that differ from others, by name, without the columns."""
    settings, before = (flatten({**to_dict(c), "columns": {}}) for c in (config, base))
    return {name: x for name, x in settings.items() if x != before[name]}


def _digest(config: Config) -> str:
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
