"""Checkpoints of a training: weights, optimizer state and progress."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras

from mmkeras.files import atomic_folder, atomic_path, write_text

_STATE_FILE, _LAST_FILE = "state.json", "last.weights.h5"


@dataclass
class TrainingState:
    """Progress of a training, stored in each checkpoint with the weights.

    Attributes:
        phase: 1, or 2 for fine-tuning; epochs are counted per phase.
        best_value: Best value of the monitored metric; None before the first epoch.
        best_epoch: Its epoch; 0 is the state before the first epoch.
        kept_epoch: Epoch whose weights the trained model gets: the best or the last.
        history: Entries of all epochs of both phases, with "epoch" and "phase".
    """

    phase: int = 1
    epochs_done: int = 0
    finished: bool = False
    best_value: float | None = None
    best_epoch: int = 0
    kept_epoch: int = 0
    history: list[dict] = field(default_factory=list)

    def is_out_of_patience(self, patience: int) -> bool:
        """Whether training stops early; never with a patience of 0."""
        return bool(patience) and self.epochs_done - self.best_epoch >= patience


def read_state(folder: Path) -> TrainingState:
    """Returns the state of the latest checkpoint, or a fresh one."""
    path = latest_checkpoint(folder)
    if path is None:
        return TrainingState()
    return TrainingState(**json.loads((path / _STATE_FILE).read_text()))


def latest_checkpoint(folder: Path) -> Path | None:
    """Returns the latest complete checkpoint."""
    # "phase1-epoch00007" < "phase2-epoch00000", also as text. A folder without state
    # is an incomplete upload to a remote run folder.
    complete = (p for p in folder.glob("phase*") if (p / _STATE_FILE).exists())
    return max(complete, default=None)


class Checkpoints:
    """The checkpoint of the last epoch, and the weights of the kept epoch."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):  # left by a killed run
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def load_last(self, model: keras.Model) -> None:
        """Loads weights and optimizer state of the latest checkpoint."""
        model.load_weights(latest_checkpoint(self.folder) / _LAST_FILE)

    def load_kept(self, model: keras.Model, state: TrainingState) -> None:
        """Loads the weights of the kept epoch."""
        model.load_weights(self._kept(state))

    def save(self, model: keras.Model, state: TrainingState, keep: bool) -> None:
        """Writes a checkpoint, with `keep` the kept weights too; deletes older ones."""
        if keep:
            swap_ema(model)
            with atomic_path(self._kept(state)) as tmp_path:
                model.save_weights(tmp_path)
            swap_ema(model)
        old_paths = [path for path in self.folder.iterdir() if path.is_dir()]
        name = f"phase{state.phase}-epoch{state.epochs_done:05d}"
        with atomic_folder(self.folder / name) as tmp_folder:
            model.save_weights(tmp_folder / _LAST_FILE)
            (tmp_folder / _STATE_FILE).write_text(json.dumps(vars(state)))
        for path in old_paths:
            shutil.rmtree(path)
        for path in self.folder.glob("kept-*"):
            if path != self._kept(state):
                path.unlink()

    def mark_finished(self, state: TrainingState) -> None:
        """Marks the latest checkpoint as the end of the training."""
        state.finished = True
        path = latest_checkpoint(self.folder) / _STATE_FILE
        write_text(path, json.dumps(vars(state)))

    def _kept(self, state: TrainingState) -> Path:
        name = f"kept-phase{state.phase}-epoch{state.kept_epoch:05d}.weights.h5"
        return self.folder / name


def swap_ema(model: keras.Model) -> None:
    """Swaps the weights with their moving averages, if the optimizer has some."""
    optimizer = getattr(model, "optimizer", None)  # None before `compile`
    # mixed_float16 wraps the optimizer in one that scales the loss.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    for weight, average in zip(model.trainable_variables, averages or [], strict=False):
        value = keras.ops.copy(weight)
        weight.assign(average)
        average.assign(value)
