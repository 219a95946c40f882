"""Models and run folders written before the packages were renamed still load.

The files of tests/golden/earlier_version were written at commit 102f722.
"""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from mmkeras.evaluate import evaluate_table
from mmkeras.export.inference import load_trained
from mmkeras.export.saved_model import export
from tests import table_factory

FOLDER = Path(__file__).parents[1] / "golden" / "earlier_version"
OUTPUTS = json.loads((FOLDER / "models" / "outputs.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A copy of the run folder, and the table that it was trained on."""
    base = tmp_path_factory.mktemp("earlier")
    folder = shutil.copytree(FOLDER / "run", base / "run")
    config = folder / "config.yaml"
    cache = f"cache_dir: {base / 'cache'}"
    config.write_text(config.read_text().replace("cache_dir: cache", cache))
    rows = table_factory.make_rows()
    rows[33]["image"] = ""
    return folder, table_factory.write_table(base / "data" / "data.csv", rows)


def model_inputs(model):
    """The inputs from which the outputs were computed."""
    if not isinstance(model.input, dict):
        return np.arange(8, dtype="float32").reshape(2, 4)
    rng, inputs = np.random.default_rng(0), {}
    for name, x in model.input.items():
        shape = (8, *x.shape[1:])
        if x.dtype == "int32":
            inputs[name] = rng.integers(1, 20, shape).astype("int32")
            inputs[name][::2, shape[1] // 2 :] = 0
        elif x.dtype == "uint8":
            inputs[name] = rng.integers(0, 256, shape).astype("uint8")
        else:
            inputs[name] = rng.normal(size=shape).astype("float32")
    present = np.ones((8, 3), "float32")
    present[1:4] -= np.eye(3)
    present[5] = 0
    return {**inputs, "present": present}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_saved_model_computes_the_same_outputs(name):
    import mmkeras.modalities.image.applications
    import mmkeras.models.model  # noqa: F401

    model = keras.saving.load_model(FOLDER / "models" / f"{name}.keras")
    outputs = np.array(model(model_inputs(model)))
    np.testing.assert_allclose(outputs, OUTPUTS[name], atol=2e-5)


def test_a_run_folder_is_evaluated(run, tmp_path):
    evaluate_table(*run, tmp_path / "new", "test", "fail")
    old, new = (
        list(csv.reader((folder / "predictions.csv").read_text().splitlines()))
        for folder in (run[0], tmp_path / "new")
    )
    assert new[0] == old[0]
    for old_row, new_row in zip(old[1:], new[1:], strict=True):
        texts, numbers = [0, 1, 2, 4], [3, 5, 6]
        assert [new_row[i] for i in texts] == [old_row[i] for i in texts]
        for i in numbers:
            assert float(new_row[i]) == pytest.approx(float(old_row[i]), abs=2e-6)


def test_a_run_folder_is_exported_and_the_export_verified(run, tmp_path):
    rows = table_factory.make_rows()[:2]
    rows = [{"text": row["text"].encode(), "image": row["image"]} for row in rows]
    version = export(load_trained(run[0]), rows, tmp_path / "export")
    assert (version / "saved_model.pb").is_file()
