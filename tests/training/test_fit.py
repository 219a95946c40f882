from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import AugmentConfig, TrainConfig
from mmkeras.data.feature_cache import cached_features
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches, Features
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.losses import build_loss
from mmkeras.models.model import backbones, build_model
from mmkeras.training.checkpoints import Checkpoints, latest_checkpoint, read_state
from mmkeras.training.fit import build_optimizer, fit, is_better, progress_name
from mmkeras.training.process_state import set_seeds
from tests import table_factory


@pytest.mark.parametrize(
    ("settings", "epochs", "expected"),
    [
        (
            {"warmup_epochs": 2, "schedule": "cosine"},
            10,
            {0: 0, 10: 0.25, 15: 0.375, 20: 0.5, 40: 0.42678, 60: 0.25, 100: 0},
        ),
        (
            {"warmup_epochs": 0.5, "schedule": "constant"},
            10,
            {0: 0, 3: 0.3, 5: 0.5, 50: 0.5, 100: 0.5},
        ),
        ({"warmup_epochs": 0}, 10, {0: 0.5}),
        ({"warmup_epochs": 99}, 2, {0: 0, 10: 0.5 * 10 / 19, 19: 0.5}),
    ],
)
def test_the_rate_rises_linearly_and_follows_the_schedule(settings, epochs, expected):
    optimizer = build_optimizer(TrainConfig(**settings), 0.5, 10, epochs)
    for step, rate in expected.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, abs=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimizer_is_that_of_the_settings(name):
    optimizer = build_optimizer(TrainConfig(optimizer=name, ema=0.9), 0.1, 1, 1)
    assert type(optimizer).__name__.lower() == name and optimizer.use_ema
    assert not build_optimizer(TrainConfig(optimizer=name, ema=0), 1, 1, 1).use_ema


def test_weights_decay_and_biases_do_not():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")])
    kernel, bias = model.trainable_variables
    bias.assign([1.0, 1.0])
    before = kernel.numpy()
    optimizer = build_optimizer(
        TrainConfig(optimizer="adamw", weight_decay=0.1, warmup_epochs=0), 0.1, 1, 1
    )
    optimizer.apply([np.zeros_like(before), np.zeros(2)], [kernel, bias])
    assert (abs(kernel.numpy()) < abs(before)).all() and (bias.numpy() == 1).all()


AUGMENT = AugmentConfig(spec_bands=4, spec_frames=0.2, word_dropout=0.2)


class Setup:
    """A table, and how to train on it from a fresh model."""

    def __init__(self, base, **columns):
        self.cache = base / "cache"
        rows = [{**row, **columns} for row in table_factory.make_rows()]
        for row in rows[24:32]:  # wrong labels: training increases val_loss
            row["label"] = {"red": "green", "green": "red"}[row["label"]]
        self.dataset = ingest(
            table_factory.write_table(base / "d.csv", rows), self.config()
        )

    def config(self, **changes):
        return table_factory.tiny_config(self.cache, augment=AUGMENT, **changes)

    def prepare(self, **changes):
        config = self.config(**changes)
        preprocessor = Preprocessor(config, fit_preprocessing(self.dataset, config))
        set_seeds(1)
        model = build_model(config, preprocessor.state)
        batches = [
            Batches(dataset=self.dataset, preprocessor=preprocessor, split=split)
            for split in ("train", "val")
        ]
        return model, batches

    def train(self, folder, spoiled=False, **changes):
        model, batches = self.prepare(**changes)
        if spoiled:  # a resumed run must not depend on its initial weights
            model.set_weights([w + 1 for w in model.get_weights()])
        state = fit(model, *batches, folder / "checkpoints", folder / "logs")
        return model, state, batches[1]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Text and audio only, which are traced faster than images."""
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
    """Stops training after the checkpoint of an epoch, as a kill would."""
    save = Checkpoints.save

    def cut(self, model, state, keep):
        save(self, model, state, keep)
        if (state.phase, state.epochs_done) == (phase, epoch):
            raise InterruptedError

    monkeypatch.setattr(Checkpoints, "save", cut)


def test_a_resumed_run_ends_as_a_full_one(setup, uninterrupted, tmp_path, monkeypatch):
    _, model, state, _ = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        cut_after(patch, phase=1, epoch=2)
        setup.train(tmp_path, **ALL_ON)
    assert latest_checkpoint(tmp_path / "checkpoints").name == "phase1-epoch00002"
    assert read_state(tmp_path / "checkpoints").history == state.history[:2]

    resumed, state_resumed, _ = setup.train(tmp_path, spoiled=True, **ALL_ON)

    assert_same_weights(resumed, model, atol=1e-6)
    assert [e["epoch"] for e in state_resumed.history] == [1, 2, 3]
    for one, other in zip(state_resumed.history, state.history, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def val_loss(model, val):
    task, smoothing = val.preprocessor.state.task, val.config.train.label_smoothing
    model.compile(loss=build_loss(task, smoothing))
    return model.evaluate(val.eval_batches(), verbose=0, return_dict=True)["loss"]


WORSENING = {"optimizer": "adam", "learning_rate": 0.02, "warmup_epochs": 0.0}


def test_early_stopping_stops_and_restores_the_best_weights(setup, tmp_path, capsys):
    train = {**WORSENING, "ema": 0.0, "patience": 2, "restore_best": True}
    model, state, val = setup.train(tmp_path, epochs=20, train=train)
    losses = [entry["val_loss"] for entry in state.history]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 20
    line = (
        f"Stopped after {best + 2} of 20 epochs: val_loss was lowest in epoch {best}."
    )
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert (state.best_epoch, state.kept_epoch) == (best, best)
    assert val_loss(model, val) == pytest.approx(min(losses), abs=1e-5)
    assert losses[-1] > min(losses) + 1e-3


def test_without_restoring_the_last_weights_are_kept_as_averaged(uninterrupted):
    _, model, state, val = uninterrupted
    losses = [entry["val_loss"] for entry in state.history]
    assert state.kept_epoch == 3 != state.best_epoch
    assert val_loss(model, val) == pytest.approx(losses[-1], abs=1e-5)
    assert losses[-1] > min(losses) + 1e-3


@pytest.mark.parametrize(
    ("modalities", "phase", "name"),
    [
        ("text,image,audio", 1, "Training"),
        ("text,image", 2, "Fine-tuning"),
        ("image", 1, "Training on image alone"),
        ("image", 2, "Fine-tuning on image alone"),
    ],
)
def test_each_phase_and_each_unimodal_model_has_a_name(
    modalities, phase, name, tmp_path
):
    config = table_factory.tiny_config(tmp_path, table={"modalities": modalities})
    assert progress_name(config, phase) == name


def test_accuracy_is_better_when_larger_and_loss_when_smaller():
    assert is_better("val_loss", 0.1, 0.2) and is_better("val_accuracy", 0.2, 0.1)
    assert not is_better("val_auc", 0.2, 0.2)


class TwoPhases:
    """One epoch on cached vectors, then one of fine-tuning."""

    def __init__(self, setup, folder, **image):
        train = {"fine_tune_epochs": 1, "fine_tune_rate": 0.01}
        image = {"frozen": "yes", **image}
        changes = {"image": image, "train": train, "loss": {"image": 0.5}}
        self.model, batches = setup.prepare(epochs=1, **changes)
        self.encoder = backbones(self.model)["image"]
        self.before = self.encoder.get_weights()
        self.folder, self.batches = folder, [self.with_vectors(b) for b in batches]

    def with_vectors(self, b):
        rows = b.dataset, b.preprocessor, "image", b.split
        path = cached_features(self.encoder, *rows)
        features = Features((path,), self.encoder.output_shape[1:])
        return replace(b, features={"image": features})

    def run(self):
        return fit(self.model, *self.batches, self.folder / "checkpoints", self.folder)

    def changed(self):
        """Whether each weight of the encoder has changed."""
        after = self.encoder.get_weights()
        return [(a != b).any() for a, b in zip(self.before, after, strict=True)]


@pytest.fixture(scope="module")
def images_only(tmp_path_factory):
    return Setup(tmp_path_factory.mktemp("images"), text="", audio="")


@pytest.mark.slow
# Several threads sum the gradient of a deep network in any order, which decides its
# sign near zero. Different steps would differ by the learning rate, 0.01, nearly
# everywhere.
@pytest.mark.parametrize(
    "encoder, tolerance",
    [
        ("small_cnn", 1e-6),
        ("resnet50", 2e-3),  # five minutes
    ],
)
def test_a_run_resumed_between_its_phases_ends_as_an_uninterrupted_one(
    images_only, tmp_path, monkeypatch, encoder, tolerance
):
    cut, resumed, full = (
        TwoPhases(images_only, tmp_path / name, encoder=encoder)
        for name in ("cut", "cut", "full")
    )
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        cut_after(patch, phase=2, epoch=0)
        cut.run()
    assert not any(cut.changed())  # the first phase trains the head alone
    assert [entry["phase"] for entry in resumed.run().history] == [1, 2]
    assert sum(resumed.changed()) > len(resumed.before) / 2
    full.run()
    weights = (x.model.get_weights() for x in (resumed, full))
    for one, other in zip(*weights, strict=True):
        assert np.abs(one - other).mean() < tolerance
