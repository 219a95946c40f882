import warnings

import h5py
import keras
import numpy as np
import pytest

from mmkeras.errors import UserError
from mmkeras.modalities.weights import load_weights_file


def network(units=2):
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, name="dense")]
    )


def test_all_weights_of_a_file_are_loaded(tmp_path):
    source, target = network(), network()
    source.save_weights(tmp_path / "network.weights.h5")
    load_weights_file(target, tmp_path / "network.weights.h5", "a small network")
    for weight, expected in zip(target.weights, source.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def write_legacy(path, shape):
    """Writes the format of keras.applications: one group per layer."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        if shape:
            group = file.create_group("dense")
            group.attrs["weight_names"] = [b"kernel"]
            group["kernel"] = np.zeros(shape)


MISFITS = {
    "other.weights.h5": lambda path: network(units=4).save_weights(path),
    "text.weights.h5": lambda path: path.write_text("not a weights file"),
    "weights.pt": lambda path: path.write_bytes(b"\x80\x02"),
    "empty.h5": lambda path: h5py.File(path, "w").close(),
    "legacy.h5": lambda path: write_legacy(path, (2, 2)),
    "torn.h5": lambda path: write_legacy(path, None),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_file_of_other_weights_is_refused_in_one_line(name, tmp_path):
    path = tmp_path / name
    MISFITS[name](path)
    with pytest.raises(UserError, match=rf"\A.*{path}' do not fit Net without top.*\Z"):
        load_weights_file(network(), path, "Net without top")


def test_a_layer_that_keras_skips_is_refused(monkeypatch):
    backbone = network()

    def skip(path):
        warnings.warn("Skipping nested container at 'blocks': no group", stacklevel=2)

    monkeypatch.setattr(backbone, "load_weights", skip)
    with pytest.raises(UserError, match="'blocks'"):
        load_weights_file(backbone, "short.weights.h5", "a network of blocks")
