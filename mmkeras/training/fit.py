"""The training loop, with resuming, early stopping and fine-tuning."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from mmkeras.config import Config, TrainConfig
from mmkeras.config.generate import GENERATE
from mmkeras.console import say
from mmkeras.data.input_pipeline import Batches
from mmkeras.errors import UserError
from mmkeras.files import write_text
from mmkeras.modalities.columns import branch_types
from mmkeras.models.decoder import LOGITS
from mmkeras.models.losses import JointModel, build_loss, build_metrics
from mmkeras.models.model import HEAD, backbones, with_outputs
from mmkeras.schema import HISTORY_FILE, PROBABILITIES
from mmkeras.training.checkpoints import (
    Checkpoints,
    TrainingState,
    read_state,
    swap_ema,
)
from mmkeras.training.cluster import read_cluster
from mmkeras.training.distributed import distributed_fit, strategy
from mmkeras.training.layer_rates import layer_ratios, scale_rates
from mmkeras.training.progress import Progress


def build_optimizer(
    config: TrainConfig,
    peak: float,
    steps: int,
    epochs: int,
    no_decay: Sequence[keras.Variable] = (),
) -> keras.optimizers.Optimizer:
    """Builds the optimizer; `steps` per epoch, and `peak` as highest learning rate.

    The variables in `no_decay`, biases and the like have no weight decay.
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
    names = ["bias", "gamma", "beta", "embedding"]
    optimizer.exclude_from_weight_decay(list(no_decay), names)
    return optimizer


class _EpochEnd(keras.callbacks.Callback):
    """Reseeds each epoch, writes checkpoints, and stops early."""

    def __init__(self, config: Config, state: TrainingState, checkpoints: Checkpoints):
        super().__init__()
        self.config, self.state, self.checkpoints = config, state, checkpoints

    def on_epoch_begin(self, epoch, logs=None):
        # A resumed epoch has the dropout masks of an uninterrupted one.
        layers = self.model._flatten_layers()
        generators = [getattr(layer, "seed_generator", None) for layer in layers]
        seed = self.config.seed * 1_000_003 + self.state.phase * 10_007 + epoch
        for i, generator in enumerate(filter(None, generators)):
            generator.state.assign([seed % 2**31, i])

    def on_test_begin(self, logs=None):
        swap_ema(self.model)

    on_test_end = on_test_begin

    def on_epoch_end(self, epoch, logs=None):
        state, settings = self.state, self.config.train
        logs = {k: float(v) for k, v in (logs or {}).items()}
        logs.pop("learning_rate", None)
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}. Lower "
                "--train.learning_rate and train into another --output."
            )
        state.epochs_done = epoch + 1
        number = len(state.history) + 1
        state.history.append({"epoch": number, "phase": state.phase, **logs})
        value, best = logs[settings.monitor], state.best_value
        is_best = best is None or is_better(settings.monitor, value, best)
        if is_best:
            state.best_value, state.best_epoch = value, state.epochs_done
        if state.is_out_of_patience(settings.patience):
            self.model.stop_training = True
        if not settings.restore_best:
            state.kept_epoch = state.epochs_done
        elif is_best:
            state.kept_epoch = state.best_epoch
        self.checkpoints.save(self.model, state, state.kept_epoch == state.epochs_done)


def is_better(monitor: str, value: float, best_value: float) -> bool:
    """Whether a value is better: a lower loss, or a higher value of other metrics."""
    return value < best_value if monitor == "val_loss" else value > best_value


def fit(
    model: keras.Model,
    train: Batches,
    val: Batches,
    folder: Path,
    logs: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingState:
    """Trains from the latest checkpoint on, and loads the weights of the kept epoch.

    If the batches have cached outputs of frozen encoders, only the rest of the model is
    trained; a second phase fine-tunes the full model. The checkpoints are in `folder`;
    `logs` is for TensorBoard. `callbacks` come before those of the run.

    Example:
        history = fit(model, train, val, run / "checkpoints", run / "logs").history
    """
    checkpoints = Checkpoints(folder)
    state = read_state(folder)
    try:
        if not state.finished:
            _phases(model, train, val, state, checkpoints, logs, callbacks)
    finally:  # also after an interrupt, even in the middle of a checkpoint
        on_disk = read_state(folder)
        if on_disk.history:
            checkpoints.load_kept(_trained_part(model, train, on_disk), on_disk)
            history = json.dumps(on_disk.history, indent=1)
            write_text(folder.parent / HISTORY_FILE, history)
    checkpoints.mark_finished(state)
    return state


def _trained_part(model, train, state) -> keras.Model:
    """Returns the model to train, a JointModel if there are auxiliary losses."""
    encoded = train.feature_keys if state.phase == 1 else set()
    config, is_generator = train.config, train.config.task == GENERATE
    types = branch_types(train.preprocessor.branches.values(), config)
    has_auxiliary = bool(config.loss.classifiers(types) or config.loss.pairs(types))
    if not encoded and not has_auxiliary:
        return model
    with strategy().scope():
        part = model.get_layer(HEAD)
        if is_generator or encoded != set(backbones(model)):
            part = with_outputs(model, encoded, has_tokens=is_generator)
        if not has_auxiliary:
            output = LOGITS if is_generator else PROBABILITIES
            return keras.Model(part.input, part.output[output])
        return JointModel(
            part.input,
            part.output,
            types=types,
            config=config.loss,
            replicas=strategy().num_replicas_in_sync,
        )


def _phases(model, train, val, state, checkpoints, logs, callbacks):
    config, others = train.config, (checkpoints, logs, callbacks)
    if state.phase == 1:
        _phase(model, train, val, config.epochs, state, *others)
    if not config.train.fine_tune_epochs or not train.features:
        return
    for key in train.feature_keys:
        backbones(model)[key].trainable = True
    if state.phase == 1:
        checkpoints.load_kept(_trained_part(model, train, state), state)
        state.phase, state.epochs_done = 2, 0
        state.best_epoch = state.kept_epoch = 0
        checkpoints.save(_trained_part(model, train, state), state, keep=True)
    raw = [replace(batches, features={}) for batches in (train, val)]
    _phase(model, *raw, config.train.fine_tune_epochs, state, *others)


def _phase(full_model, train, val, epochs, state, checkpoints, logs, callbacks):
    config, settings = train.config, train.config.train
    model = _trained_part(full_model, train, state)
    peak = settings.learning_rate if state.phase == 1 else settings.fine_tune_rate
    ratios = _ratios(full_model, train, peak)
    if state.phase == 2 and not state.epochs_done:
        checkpoints.load_kept(model, state)  # the result of the first phase
    task = train.preprocessor.state.task
    with strategy().scope():
        variables = model.trainable_variables
        slow = [v for v in variables if id(v) in ratios]
        optimizer = build_optimizer(settings, peak, train.steps, epochs, slow)
        if ratios:
            scale_rates(optimizer, variables, ratios)
        if settings.precision == "mixed_float16":  # as Keras does under that policy
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(
            optimizer=optimizer,
            loss=build_loss(task, settings.label_smoothing, config.loss),
            metrics=build_metrics(task, len(train.preprocessor.state.classes)),
        )
        model.optimizer.build(model.trainable_variables)
        if state.epochs_done:
            checkpoints.load_last(model)
    if state.epochs_done >= epochs or state.is_out_of_patience(settings.patience):
        return
    epoch_end = _EpochEnd(config, state, checkpoints)
    tensorboard = keras.callbacks.TensorBoard(
        str(logs / f"phase{state.phase}"), write_graph=False, profile_batch=0
    )
    callbacks = [*callbacks, tensorboard, epoch_end]
    name = progress_name(config, state.phase)
    train_epochs(model, train, val, range(state.epochs_done, epochs), callbacks, name)
    if state.epochs_done < epochs:
        extreme = "lowest" if settings.monitor == "val_loss" else "highest"
        say(
            f"Stopped after {state.epochs_done} of {epochs} epochs: {settings.monitor} "
            f"was {extreme} in epoch {state.best_epoch}."
        )


def _ratios(model, train, peak) -> dict[int, float]:
    """Returns id of a variable of a pretrained encoder -> its rate as a share."""
    settings, encoders, ratios = train.config.train, backbones(model), {}
    for branch in train.preprocessor.branches.values():
        if branch.is_pretrained and branch.key in encoders:
            ratios |= layer_ratios(encoders[branch.key], settings, peak)
    return ratios


def progress_name(config: Config, phase: int) -> str:
    """Returns the name of a phase: "Training", "Fine-tuning on image alone"."""
    only = config.table.modalities  # one for `evaluate.trained_alone`
    alone = f" on {only} alone" if only and "," not in only else ""
    return ("Fine-tuning" if phase == 2 else "Training") + alone


def train_epochs(
    model,
    train: Batches,
    val: Batches,
    epochs: range,
    callbacks,
    name: str = "Training",
) -> None:
    """Trains a compiled model by `model.fit`, or by `distributed_fit` on workers.

    `name` is that of the progress bar.
    """
    batches = train.train_batches(epochs), val.eval_batches(again=True)
    progress = Progress(epochs, train.steps, name)
    callbacks = [*callbacks, progress]
    try:
        if read_cluster().workers > 1:
            distributed_fit(model, *batches, epochs, train.steps, callbacks)
            return
        model.fit(
            batches[0],
            validation_data=batches[1],
            initial_epoch=epochs[0],
            epochs=epochs[-1] + 1,
            steps_per_epoch=train.steps,
            callbacks=callbacks,
            verbose=0,  # `progress` reports
            shuffle=False,  # the batches are shuffled
        )
    finally:
        progress.close()
