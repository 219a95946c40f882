"""Models and run folders written before the packages were renamed still load.

The files of tests/golden/earlier_version were written at commit 102f722.
"""

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
from tests.preset_models import model_inputs
from tests.program_harness import read_csv

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


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_saved_model_computes_the_same_outputs(name):
    import mmkeras.modalities.image.applications
    import mmkeras.models.model  # noqa: F401

    model = keras.saving.load_model(FOLDER / "models" / f"{name}.keras")
    vectors = np.arange(8, dtype="float32").reshape(2, 4)
    inputs = model_inputs(model) if isinstance(model.input, dict) else vectors
    outputs = np.array(model(inputs))
    np.testing.assert_allclose(outputs, OUTPUTS[name], atol=2e-5)


def test_a_run_folder_is_evaluated(run, tmp_path):
    evaluate_table(*run, tmp_path / "new", "test", "fail")
    old, new = (read_csv(p / "predictions.csv") for p in (run[0], tmp_path / "new"))
    for old_row, new_row in zip(old, new, strict=True):
        assert list(new_row) == list(old_row)
        for name, cell in old_row.items():
            is_number = name in ("score", "green", "red")
            cell = pytest.approx(float(cell), abs=2e-6) if is_number else cell
            assert (float(new_row[name]) if is_number else new_row[name]) == cell


def test_a_run_folder_is_exported_and_the_export_verified(run, tmp_path):
    rows = table_factory.make_rows()[:2]
    rows = [{"text": row["text"].encode(), "image": row["image"]} for row in rows]
    version = export(load_trained(run[0]), rows, tmp_path / "export")
    assert (version / "saved_model.pb").is_file()
