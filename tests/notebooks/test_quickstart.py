import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def test_the_repository_has_no_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.cell_type == "markdown" or not cell.outputs, cell.id


@pytest.mark.slow
def test_all_cells_run_and_print_nothing_on_stderr(tmp_path, monkeypatch):
    root = str(NOTEBOOK.parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{root}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    streams = [o for cell in outputs.values() for o in cell if "name" in o]
    assert not [stream.text for stream in streams if stream.name == "stderr"]
    (result,) = outputs["served"]
    assert "b'red'" in result.data["text/plain"]
    assert "iframe" in outputs["page"][0].data["text/html"]
