import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig, TrainConfig
from mmkeras.data.feature_cache import image_vectors
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.losses import build_loss
from mmkeras.models.model import IMAGE_ENCODER, build_model
from mmkeras.training import fit as fitting
from mmkeras.training.fit import Checkpoints, build_optimizer, fit
from tests import table_factory

# Schedule and optimizer -------------------------------------------------------


def rates(config, steps=10, epochs=10, peak=0.5):
    rate = build_optimizer(config, peak, steps, epochs)._learning_rate
    return np.array([float(rate(step)) for step in range(steps * epochs + 1)])


def test_the_rate_rises_from_zero_to_the_peak_and_falls_to_zero():
    found = rates(TrainConfig(warmup_epochs=2, schedule="cosine"))
    assert found[0] == 0 and found[20] == pytest.approx(0.5)
    assert (np.diff(found[:21]) > 0).all() and (np.diff(found[20:]) < 0).all()
    np.testing.assert_allclose(np.diff(found[:21]), 0.025, atol=1e-6)  # a line
    assert found[60] == pytest.approx(0.25) and found[100] == pytest.approx(0, abs=1e-8)


def test_a_constant_rate_stays_at_the_peak_after_the_warm_up():
    found = rates(TrainConfig(warmup_epochs=0.5, schedule="constant"))
    assert found[0] == 0 and found[3] == pytest.approx(0.3)
    np.testing.assert_allclose(found[5:], 0.5, rtol=1e-6)


def test_without_warm_up_the_first_step_has_the_peak():
    assert rates(TrainConfig(warmup_epochs=0))[0] == pytest.approx(0.5)


def test_a_warm_up_longer_than_the_run_still_reaches_the_peak():
    found = rates(TrainConfig(warmup_epochs=99), epochs=2)
    assert found[19] == pytest.approx(0.5) and found[:19].max() < 0.5


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimizer_is_the_one_asked_for(name):
    optimizer = build_optimizer(TrainConfig(optimizer=name, ema=0.9), 0.1, 1, 1)
    assert type(optimizer).__name__.lower() == name and optimizer.use_ema
    assert not build_optimizer(TrainConfig(optimizer=name, ema=0), 1, 1, 1).use_ema


def test_biases_and_embeddings_of_absence_do_not_decay():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")])
    optimizer = build_optimizer(TrainConfig(weight_decay=0.1), 0.1, 1, 1)
    optimizer.build(model.trainable_variables)
    kernel, bias = model.trainable_variables
    assert optimizer._use_weight_decay(kernel) and not optimizer._use_weight_decay(bias)


# Runs -------------------------------------------------------------------------

AUGMENT = AugmentConfig(spec_bands=4, spec_frames=0.2, word_dropout=0.2)


class Setup:
    """A table of texts and sounds, and how to train on it from a fresh model."""

    def __init__(self, base, **columns):
        self.cache = base / "cache"
        rows = [{**row, **columns} for row in table_factory.make_rows()]
        for row in rows[24:32]:  # wrong: the better the model, the larger val_loss
            row["label"] = {"red": "green", "green": "red"}[row["label"]]
        self.dataset = ingest(
            table_factory.write_table(base / "d.csv", rows), self.config()
        )

    def config(self, **changes):
        return table_factory.tiny_config(self.cache, augment=AUGMENT, **changes)

    def prepare(self, **changes):
        config = self.config(**changes)
        preprocessor = Preprocessor(config, fit_preprocessing(self.dataset, config))
        keras.utils.set_random_seed(1)
        tf.config.experimental.enable_op_determinism()  # as `fit_model` does
        model = build_model(config, preprocessor.state)
        batches = [
            Batches(dataset=self.dataset, preprocessor=preprocessor, split=split)
            for split in ("train", "val")
        ]
        return model, batches

    def train(self, folder, spoiled=False, **changes):
        model, batches = self.prepare(**changes)
        if spoiled:  # what a resumed run begins with must not matter
            model.set_weights([w + 1 for w in model.get_weights()])
        state = fit(model, *batches, folder / "checkpoints", folder / "logs")
        return model, state, batches[1]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Texts and sounds only: seconds less to trace than with pictures."""
    return Setup(tmp_path_factory.mktemp("fit"), image="")


ALL_ON = {
    "epochs": 3,
    "table": {"modalities": "text,audio"},
    "train": {"optimizer": "adamw", "ema": 0.8, "weight_decay": 0.1},
    "loss": {"text": 0.5, "text_audio": 0.3},
}


@pytest.fixture(scope="module")
def uninterrupted(setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, *setup.train(folder, **ALL_ON)


def assert_same_weights(one, other, atol):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def cut_after(monkeypatch, phase, epoch):
    """Stops training once the checkpoint of the epoch is there, as a kill would."""
    save = Checkpoints.save

    def cut(self, model, state, keep):
        save(self, model, state, keep)
        if (state.phase, state.epochs_done) == (phase, epoch):
            raise InterruptedError

    monkeypatch.setattr(Checkpoints, "save", cut)


@pytest.fixture(scope="module")
def cut_short(setup, tmp_path_factory):
    """The same run again, stopped after its second epoch."""
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        cut_after(patch, phase=1, epoch=2)
        with pytest.raises(InterruptedError):
            setup.train(folder, **ALL_ON)
    return folder


@pytest.mark.e2e
def test_two_runs_with_one_seed_are_equal(uninterrupted, cut_short):
    _, _, state, _ = uninterrupted
    again = Checkpoints(cut_short / "checkpoints").load_state()
    assert again.history == state.history[:2]


def test_a_resumed_run_ends_as_an_uninterrupted_one(setup, uninterrupted, cut_short):
    _, model, state, _ = uninterrupted
    (checkpoint,) = (cut_short / "checkpoints").glob("phase*")
    assert checkpoint.name == "phase1-epoch00002"

    resumed, state_resumed, _ = setup.train(cut_short, spoiled=True, **ALL_ON)

    assert_same_weights(resumed, model, atol=1e-6)
    assert [e["epoch"] for e in state_resumed.history] == [1, 2, 3]
    for one, other in zip(state_resumed.history, state.history, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_a_finished_run_is_loaded_and_not_trained_again(
    setup, uninterrupted, monkeypatch
):
    folder, model, state, _ = uninterrupted

    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(keras.Model, "fit", fail)
    again, state_again, _ = setup.train(folder, spoiled=True, **ALL_ON)
    assert_same_weights(again, model, atol=0)
    assert state_again.finished and vars(state_again) == vars(state)


def test_only_whole_checkpoints_and_the_kept_weights_are_left(uninterrupted):
    folder, *_ = uninterrupted
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["kept-phase1-epoch00003.weights.h5", "phase1-epoch00003"]
    inside = sorted(p.name for p in (folder / "checkpoints" / names[1]).iterdir())
    assert inside == ["last.weights.h5", "state.json"]
    history = json.loads((folder / "history.json").read_text())
    assert [entry["phase"] for entry in history] == [1, 1, 1]
    assert list(folder.glob("logs/phase1/*/events*"))


def test_a_checkpoint_that_was_cut_short_is_not_taken(setup, uninterrupted, tmp_path):
    half = tmp_path / "checkpoints" / ".phase1-epoch00007"
    half.mkdir(parents=True)
    (half / "state.json").write_text('{"phase": 1, "epochs_done": 7}')
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load_state().epochs_done == 0 and not half.exists()


def test_a_kill_while_saving_leaves_the_checkpoint_before(
    uninterrupted, tmp_path, monkeypatch
):
    _, model, state, _ = uninterrupted
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, replace(state, epochs_done=4), keep=True)

    def killed(*_):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(fitting.os, "rename", killed)
        with pytest.raises(InterruptedError):
            checkpoints.save(model, replace(state, epochs_done=5), keep=False)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_state().epochs_done == 4
    checkpoints.load_last(model)
    assert not list(tmp_path.glob(".*"))


# The best and the last --------------------------------------------------------


def val_loss(model, val):
    task, smoothing = val.preprocessor.state.task, val.config.train.label_smoothing
    model.compile(loss=build_loss(task, smoothing))
    return model.evaluate(val.plain(), verbose=0, return_dict=True)["loss"]


WORSENING = {"optimizer": "adam", "learning_rate": 0.02, "warmup_epochs": 0.0}


def test_early_stopping_stops_and_restores_the_best_weights(setup, tmp_path):
    train = {**WORSENING, "ema": 0.0, "patience": 2, "restore_best": True}
    model, state, val = setup.train(tmp_path, epochs=20, train=train)
    losses = [entry["val_loss"] for entry in state.history]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 20
    assert (state.best_epoch, state.kept_epoch) == (best, best)
    assert val_loss(model, val) == pytest.approx(min(losses), abs=1e-5)
    assert losses[-1] > min(losses) + 1e-3


def test_without_restoring_the_last_weights_are_kept_as_averaged(uninterrupted):
    _, model, state, val = uninterrupted
    losses = [entry["val_loss"] for entry in state.history]
    assert state.kept_epoch == 3 != state.best_epoch
    assert val_loss(model, val) == pytest.approx(losses[-1], abs=1e-5)
    assert losses[-1] > min(losses) + 1e-3


def test_accuracy_is_better_when_larger_and_loss_when_smaller():
    assert fitting._is_better("val_loss")(0.1, 0.2)
    assert fitting._is_better("val_accuracy")(0.2, 0.1)
    assert not fitting._is_better("val_auc")(0.2, 0.2)


# Two phases -------------------------------------------------------------------


class TwoPhases:
    """One epoch on the computed vectors, then one of fine-tuning."""

    def __init__(self, setup, folder, **image):
        train = {"fine_tune_epochs": 1, "fine_tune_learning_rate": 0.01}
        image = {"frozen": "yes", **image}
        changes = {"image": image, "train": train, "loss": {"image": 0.5}}
        self.model, batches = setup.prepare(epochs=1, **changes)
        self.encoder = self.model.get_layer(IMAGE_ENCODER)
        self.before = self.encoder.get_weights()
        self.folder, self.batches = folder, [self.computed(b) for b in batches]

    def computed(self, b):
        path = image_vectors(self.encoder, b.dataset, b.preprocessor, b.split)
        shape = self.encoder.output_shape[1:]
        return replace(b, image_vectors=path, image_shape=shape)

    def run(self):
        return fit(self.model, *self.batches, self.folder / "checkpoints", self.folder)

    def changed(self):
        """Which weights of the encoder are no longer what they were."""
        after = self.encoder.get_weights()
        return [(a != b).any() for a, b in zip(self.before, after, strict=True)]


@pytest.fixture(scope="module")
def pictures_only(tmp_path_factory):
    return Setup(tmp_path_factory.mktemp("pictures"), text="", audio="")


def resumed_between_phases(setup, folder, monkeypatch, **image):
    cut = TwoPhases(setup, folder, **image)
    with monkeypatch.context() as patch:
        cut_after(patch, phase=2, epoch=0)
        with pytest.raises(InterruptedError):
            cut.run()
    assert not any(cut.changed())
    resumed = TwoPhases(setup, folder, **image)
    history = resumed.run().history
    assert [entry["phase"] for entry in history] == [1, 2]
    assert sum(resumed.changed()) > len(resumed.before) / 2
    return resumed.model


@pytest.mark.e2e
def test_a_frozen_image_branch_learns_in_the_second_phase_only(
    pictures_only, tmp_path, monkeypatch
):
    resumed_between_phases(pictures_only, tmp_path, monkeypatch)


@pytest.mark.e2e
# The gradient of a deep network is summed by several threads, in any order, which tells
# where it is about zero; steps that went another way would differ by the learning rate,
# 0.01, nearly everywhere.
@pytest.mark.parametrize("encoder, most", [("small_cnn", 1e-6), ("resnet50", 2e-3)])
def test_a_run_resumed_between_its_phases_ends_as_an_uninterrupted_one(
    pictures_only, tmp_path, monkeypatch, encoder, most
):
    cut = tmp_path / "cut"
    model = resumed_between_phases(pictures_only, cut, monkeypatch, encoder=encoder)
    whole = TwoPhases(pictures_only, tmp_path / "whole", encoder=encoder)
    whole.run()
    for weights in zip(model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.abs(np.subtract(*weights)).mean() < most


def test_a_checkpoint_that_was_sent_in_part_is_not_taken(tmp_path):
    for name in ("phase1-epoch00001/state.json", "phase1-epoch00002/last.weights.h5"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    assert fitting._newest(tmp_path) == tmp_path / "phase1-epoch00001"
