import json

import keras
import pytest

from mmkeras.cost import main, measure
from mmkeras.errors import UserError
from tests import table_factory
from tests.program_harness import output_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


def test_parameters_are_the_models_and_times_are_positive(run, tmp_path):
    out = output_of(main, ["--model", run, "--output", tmp_path / "cost.json"])
    cost = json.loads((tmp_path / "cost.json").read_text())
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert cost["parameters"] == model.count_params()
    assert 0 < cost["row_of_batch_ms"] < 1000 and 0 < cost["row_ms"] < 1000
    assert f"Parameters:       {cost['parameters']:,}\n" in out


def test_a_run_without_export_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="holds no config.yaml"):
        main(["--model", str(tmp_path)])
    for name in ("config.yaml", "analysis.json", "model.keras", "manifest.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(UserError, match="holds no export; finish its training"):
        measure(tmp_path)


def test_rows_of_a_generator_are_timed(generator_run):
    cost = measure(generator_run)
    assert cost["calls"] >= 5 and cost["parameters"] > 1000
    assert 0 < cost["row_of_batch_ms"] < 1000 and 0 < cost["row_ms"] < 1000
