import json
import sys

import pytest

from mmkeras.cli import run_program
from mmkeras.cost import main, measure
from mmkeras.errors import UserError
from tests import table_factory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


def test_parameters_are_those_of_the_model_and_a_batch_is_cheaper_by_row(
    run, tmp_path, capsys
):
    import keras

    assert main(["--model", str(run), "--output", str(tmp_path / "cost.json")]) == 0
    cost = json.loads((tmp_path / "cost.json").read_text())
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert cost["parameters"] == model.count_params()
    assert 0 < cost["row_of_batch_ms"] < cost["row_ms"] < 1000
    assert f"Parameters:       {cost['parameters']:,}\n" in capsys.readouterr().out


def test_a_run_without_export_is_refused(run, tmp_path):
    for name in ("config.yaml", "analysis.json", "model.keras", "manifest.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(UserError, match="holds no export; let its training end"):
        measure(tmp_path)


def test_a_folder_without_run_is_one_line_and_exit_code_2(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["cost", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2 and "holds no config.yaml" in capsys.readouterr().err
