"""The training loop: epochs, checkpoints, resuming, early stopping, two phases."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras

from mmkeras.config import Config, TrainConfig
from mmkeras.data.input_pipeline import Batches
from mmkeras.errors import UserError
from mmkeras.models.losses import JointModel, build_loss, build_metrics
from mmkeras.models.model import HEAD, IMAGE_ENCODER, with_outputs
from mmkeras.schema import EMBEDDING, HISTORY_FILE, PROBABILITIES
from mmkeras.training.cluster import read_cluster
from mmkeras.training.distributed import distributed_fit, strategy

_STATE_FILE, _LAST_FILE = "state.json", "last.weights.h5"


def build_optimizer(
    config: TrainConfig, peak: float, steps: int, epochs: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer with its learning-rate schedule.

    Args:
        config: Kind, schedule, warm-up and decay.
        peak: Highest learning rate.
        steps: Batches in one epoch.
        epochs: Epochs over which the schedule runs.
    """
    warmup = min(round(config.warmup_epochs * steps), steps * epochs - 1)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak if warmup == 0 else 0.0,
        decay_steps=max(1, steps * epochs - warmup),
        alpha=1.0 if config.schedule == "constant" else 0.0,
        warmup_target=None if warmup == 0 else peak,
        warmup_steps=warmup,
    )
    ema = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **ema)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, **ema)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **ema)
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "embedding"]
    )
    return optimizer


@dataclass
class State:
    """How far training has come; what a checkpoint holds beside the weights.

    Attributes:
        phase: 1, or 2 for fine-tuning.
        epochs_done: In this phase.
        finished: Whether all phases are through.
        best_value: Of the monitored metric; None before the first epoch.
        best_epoch: In this phase; 0 is the state the phase began with.
        kept_epoch: The one whose weights are kept: the best or the last.
        history: One entry an epoch over all phases, with "epoch" and "phase".
    """

    phase: int = 1
    epochs_done: int = 0
    finished: bool = False
    best_value: float | None = None
    best_epoch: int = 0
    kept_epoch: int = 0
    history: list[dict] = field(default_factory=list)


def read_state(folder: Path) -> State:
    """Returns the newest state in a folder of checkpoints, or a fresh one."""
    newest = _newest(folder)
    if newest is None:
        return State()
    return State(**json.loads((newest / _STATE_FILE).read_text()))


def _newest(folder: Path) -> Path | None:
    # "phase1-epoch00007" < "phase2-epoch00000", also as text. A folder without state
    # was on its way to a remote run folder when its sender was killed.
    whole = (p for p in folder.glob("phase*") if (p / _STATE_FILE).exists())
    return max(whole, default=None)


class Checkpoints:
    """Weights and state on disk; each epoch's appears whole, by a rename."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def load_state(self) -> State:
        """Returns the newest state, or a fresh one."""
        return read_state(self.folder)

    def load_last(self, model: keras.Model) -> None:
        """Loads the newest weights, the optimizer's too."""
        model.load_weights(_newest(self.folder) / _LAST_FILE)

    def load_kept(self, model: keras.Model, state: State) -> None:
        model.load_weights(self._kept(state))

    def save(self, model: keras.Model, state: State, keep: bool) -> None:
        """Writes the state, the weights to go on from, and those worth keeping."""
        if keep:
            aside = self.folder / ".kept.weights.h5"
            swap_ema(model)
            model.save_weights(aside)
            swap_ema(model)
            os.replace(aside, self._kept(state))
        name = f"phase{state.phase}-epoch{state.epochs_done:05d}"
        aside = self.folder / f".{name}"
        aside.mkdir()
        model.save_weights(aside / _LAST_FILE)
        (aside / _STATE_FILE).write_text(json.dumps(vars(state)))
        older = [p for p in self.folder.iterdir() if p.is_dir() and p != aside]
        os.rename(aside, self.folder / name)
        for path in older:
            shutil.rmtree(path)
        for path in self.folder.glob("kept-*"):
            if path != self._kept(state):
                path.unlink()

    def mark_finished(self, state: State) -> None:
        """Notes in the newest checkpoint that there is nothing left to train."""
        state.finished = True
        path = _newest(self.folder) / _STATE_FILE
        aside = path.with_suffix(".aside")
        aside.write_text(json.dumps(vars(state)))
        os.replace(aside, path)

    def _kept(self, state: State) -> Path:
        name = f"kept-phase{state.phase}-epoch{state.kept_epoch:05d}.weights.h5"
        return self.folder / name


def swap_ema(model: keras.Model) -> None:
    """Exchanges the weights with their moving average, where there is one."""
    optimizer = getattr(model, "optimizer", None)  # none before it is compiled
    # mixed_float16 wraps the optimizer in one that scales the loss.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    for weight, average in zip(model.trainable_variables, averages or [], strict=False):
        held = keras.ops.copy(weight)
        weight.assign(average)
        average.assign(held)


class _EpochEnd(keras.callbacks.Callback):
    """Reseeds each epoch, keeps the best weights, checkpoints, and stops early."""

    def __init__(self, config: Config, state: State, checkpoints: Checkpoints, best):
        super().__init__()
        self.config, self.state, self.checkpoints = config, state, checkpoints
        self.is_better = best

    def on_epoch_begin(self, epoch, logs=None):
        # A resumed epoch draws the dropout that an uninterrupted one would draw.
        layers = [x for x in self.model._flatten_layers() if _seed_generator(x)]
        for i, layer in enumerate(layers):
            seed = self.config.seed * 1_000_003 + self.state.phase * 10_007 + epoch
            _seed_generator(layer).state.assign([seed % 2**31, i])

    def on_test_begin(self, logs=None):
        swap_ema(self.model)

    def on_test_end(self, logs=None):
        swap_ema(self.model)

    def on_epoch_end(self, epoch, logs=None):
        state, logs = self.state, {k: float(v) for k, v in (logs or {}).items()}
        logs.pop("learning_rate", None)
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}. Lower "
                "--train.learning_rate and train into another --output."
            )
        state.epochs_done = epoch + 1
        number = len(state.history) + 1
        state.history.append({"epoch": number, "phase": state.phase, **logs})
        value = logs[self.config.train.monitor]
        is_best = state.best_value is None or self.is_better(value, state.best_value)
        if is_best:
            state.best_value, state.best_epoch = value, state.epochs_done
        patience = self.config.train.patience
        if patience and state.epochs_done - state.best_epoch >= patience:
            self.model.stop_training = True
        if not self.config.train.restore_best:
            state.kept_epoch = state.epochs_done
        elif is_best:
            state.kept_epoch = state.best_epoch
        self.checkpoints.save(self.model, state, state.kept_epoch == state.epochs_done)


def _seed_generator(layer):
    return getattr(layer, "seed_generator", None)


def _is_better(monitor: str) -> Callable[[float, float], bool]:
    if monitor == "val_loss":
        return lambda value, best: value < best
    return lambda value, best: value > best


def fit(
    model: keras.Model, train: Batches, val: Batches, folder: Path, logs: Path
) -> State:
    """Trains, or goes on from the last checkpoint, and leaves the best weights.

    With a frozen image encoder the batches bring its computed output, and only the
    head is trained; a second phase trains all of it on pictures.

    Args:
        model: As `build_model` gives it.
        train, val: Their batches.
        folder: Of the checkpoints.
        logs: Of TensorBoard.

    Returns:
        The last state, with the history.
    """
    checkpoints = Checkpoints(folder)
    state = checkpoints.load_state()
    try:
        if not state.finished:
            _phases(model, train, val, state, checkpoints, logs)
    finally:  # also when interrupted, even while a checkpoint was being written
        on_disk = checkpoints.load_state()
        if on_disk.history:
            checkpoints.load_kept(_trained_part(model, train, on_disk), on_disk)
            history = json.dumps(on_disk.history, indent=1)
            (folder.parent / HISTORY_FILE).write_text(history)
    checkpoints.mark_finished(state)
    return state


def _trained_part(model, train, state) -> keras.Model:
    """The head, while computed image vectors stand for the frozen encoder.

    With what the settings train of single modalities, where they do.
    """
    whole = train.image_vectors is None or state.phase == 2
    head = model.get_layer(HEAD)
    joint = len(head.output) > len((PROBABILITIES, EMBEDDING))
    if whole and not joint:
        return model
    with strategy().scope():
        if not joint:
            return keras.Model(head.input, head.output[PROBABILITIES])
        part = with_outputs(model) if whole else head
        return JointModel(
            part.input,
            part.output,
            modalities=train.preprocessor.modalities,
            config=train.config.loss,
            replicas=strategy().num_replicas_in_sync,
        )


def _phases(model, train, val, state, checkpoints, logs):
    config = train.config
    if state.phase == 1:
        part = _trained_part(model, train, state)
        _phase(part, train, val, config.epochs, state, checkpoints, logs)
    if not config.train.fine_tune_epochs or train.image_vectors is None:
        return
    model.get_layer(IMAGE_ENCODER).trainable = True
    if state.phase == 1:
        checkpoints.load_kept(_trained_part(model, train, state), state)
        state.phase, state.epochs_done = 2, 0
        state.best_epoch = state.kept_epoch = 0
        checkpoints.save(_trained_part(model, train, state), state, keep=True)
    images = [
        replace(batches, image_vectors=None, image_shape=()) for batches in (train, val)
    ]
    epochs = config.train.fine_tune_epochs
    part = _trained_part(model, train, state)
    _phase(part, *images, epochs, state, checkpoints, logs)


def _phase(model, train, val, epochs, state, checkpoints, logs):
    config = train.config
    peak = (
        config.train.learning_rate
        if state.phase == 1
        else config.train.fine_tune_learning_rate
    )
    if state.phase == 2 and not state.epochs_done:
        checkpoints.load_kept(model, state)  # what the first phase ended with
    task = train.preprocessor.state.task
    with strategy().scope():
        model.compile(
            optimizer=_scaled(
                build_optimizer(config.train, peak, train.steps, epochs), config.train
            ),
            loss=build_loss(task, config.train.label_smoothing, config.loss),
            metrics=build_metrics(task, len(train.preprocessor.state.classes)),
        )
        model.optimizer.build(model.trainable_variables)
        if state.epochs_done:
            checkpoints.load_last(model)
    patience = config.train.patience
    stopped = patience and state.epochs_done - state.best_epoch >= patience
    if state.epochs_done >= epochs or stopped:
        return
    end = _EpochEnd(config, state, checkpoints, _is_better(config.train.monitor))
    board = keras.callbacks.TensorBoard(
        str(logs / f"phase{state.phase}"), write_graph=False, profile_batch=0
    )
    _train(model, train, val, range(state.epochs_done, epochs), [board, end])


def _scaled(optimizer, config):
    """Scales the loss for float16, as Keras does for models built under its policy."""
    if config.precision != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def _train(model, train, val, epochs, callbacks):
    verbose = 1 if sys.stdout.isatty() else 2
    batches = train.augmented(epochs), val.plain(again=True)
    if read_cluster().workers > 1:
        distributed_fit(model, *batches, epochs, train.steps, callbacks, verbose)
        return
    model.fit(
        batches[0],
        validation_data=batches[1],
        initial_epoch=epochs[0],
        epochs=epochs[-1] + 1,
        steps_per_epoch=train.steps,
        callbacks=callbacks,
        verbose=verbose,
        shuffle=False,  # `augmented` has done it
    )
