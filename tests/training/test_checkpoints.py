from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.training.checkpoints import (
    Checkpoints,
    TrainingState,
    latest_checkpoint,
    read_state,
)

FOUR = TrainingState(epochs_done=4, kept_epoch=4)
FIVE = replace(FOUR, epochs_done=5)


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(use_ema=True, ema_momentum=0.5), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    model.set_weights([w + 1 for w in model.get_weights()])  # not the averages
    return model


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_latest_weights_and_the_averages_of_the_kept_epoch_remain(model, tmp_path):
    checkpoints, weights = Checkpoints(tmp_path), model.get_weights()
    checkpoints.save(model, replace(FOUR, epochs_done=3, kept_epoch=3), keep=True)
    checkpoints.save(model, FOUR, keep=True)
    checkpoints.save(model, FIVE, keep=False)
    assert names(tmp_path) == ["kept-phase1-epoch00004.weights.h5", "phase1-epoch00005"]
    assert names(tmp_path / "phase1-epoch00005") == ["last.weights.h5", "state.json"]

    checkpoints.load_kept(model, FIVE)
    assert not np.allclose(model.get_weights()[0], weights[0])
    checkpoints.load_last(model)
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])
    checkpoints.mark_finished(FIVE)
    assert read_state(tmp_path) == replace(FIVE, finished=True)


def test_incomplete_checkpoints_are_not_used_and_hidden_ones_deleted(tmp_path):
    for name in (
        "phase1-epoch00001/state.json",
        "phase1-epoch00002/last.weights.h5",  # an upload without its state
        ".a1b2.phase1-epoch00003/state.json",
        ".a1b2.kept-phase1-epoch00003.weights.h5/part",
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    (tmp_path / ".a1b2.file").write_text("half")
    Checkpoints(tmp_path)
    assert latest_checkpoint(tmp_path) == tmp_path / "phase1-epoch00001"
    assert not list(tmp_path.glob(".*"))


def test_a_kill_while_saving_leaves_the_checkpoint_before(model, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, FOUR, keep=True)

    def fail(*_):
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("os.rename", fail)
        checkpoints.save(model, FIVE, keep=False)
    assert read_state(tmp_path).epochs_done == 4
    Checkpoints(tmp_path).load_last(model)
    assert names(tmp_path) == ["kept-phase1-epoch00004.weights.h5", "phase1-epoch00004"]
