import json
from types import SimpleNamespace

import pytest

from pipeline.runtime import lineage


@pytest.mark.parametrize(
    ("epochs", "resolved", "shown"),
    [("auto", {"resolved": {"epochs": 120}}, "120"), (5, {"resolved": {}}, "5")]
    + [(30, {}, "30")],  # an earlier version
)
def test_the_epochs_are_those_of_the_run(epochs, resolved, shown, tmp_path):
    settings = {"preset": "early", "seed": 3, "epochs": epochs}
    manifest = {"settings": settings, **resolved}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    run = SimpleNamespace(uri=str(tmp_path))
    text = lineage._config(run)["Config"]
    assert text.endswith(f"(preset early, seed 3, {shown} epochs at most)")
