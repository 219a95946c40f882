import json

import numpy as np

from mmkeras.data.dataset import load_dataset
from mmkeras.evaluation.predictions import merge_status, predict_split
from mmkeras.export.inference import load_trained
from tests import table_factory


def test_a_row_that_ingest_could_not_read_is_not_called_absent():
    assert merge_status("ok", "") == "ok"
    assert merge_status("image absent", "image unreadable") == "image unreadable"
    said = merge_status("text absent; audio absent", "audio unreadable")
    assert said == "text absent; audio unreadable"


def test_training_rows_can_be_predicted_too(tmp_path_factory):
    folder = table_factory.trained_run(tmp_path_factory)[0]
    fingerprint = json.loads((folder / "manifest.json").read_text())["fingerprint"]
    dataset = load_dataset(folder.parent / "cache" / f"table-{fingerprint}")
    found = predict_split(load_trained(folder), dataset, "val")
    assert found.ids == [f"r{i}" for i in range(24, 32)]
    assert found.targets.shape == found.probabilities.shape == (8, 2)
    np.testing.assert_array_equal(found.targets.argmax(1), [1, 0] * 4)  # red, green
