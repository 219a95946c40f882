from dataclasses import replace

import numpy as np
import pytest

from mmkeras.data import fit_preprocessing as analyzing
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import read_rows
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Gives rows, of which some lack a modality, and what they teach; by settings."""
    base = tmp_path_factory.mktemp("data")
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    rows[3]["audio"] = rows[4]["image"] = rows[5]["text"] = ""
    for row in rows[24:]:  # words that training must not know
        row["text"] += " unseen"
    table = table_factory.write_table(base / "data.csv", rows)
    dataset = ingest(table, table_factory.tiny_config(base / "cache"))

    def learn(**changes):
        config = table_factory.tiny_config(base / "cache", **changes)
        return dataset, config, fit_preprocessing(dataset, config)

    return learn


def test_vocabulary_and_scales_come_from_the_training_rows_only(learned):
    dataset, config, state = learned(text={"vocab_size": 64, "min_rows": 1})
    assert "fresh" in state.vocabulary and "unseen" not in state.vocabulary
    assert len(state.idf) == len(state.vocabulary) == state.widths["text"]

    scale = state.scales["audio"]
    unscaled = Preprocessor(config, replace(state, scales={}))
    strings = [row["audio"] for row in read_rows(dataset.files("train"), ["audio"])]
    vectors = [
        unscaled.finish("audio", unscaled.decode("audio", s))
        for s in strings
        if s != ""
    ]
    assert len(vectors) == 23
    np.testing.assert_allclose(scale.mean, np.mean(vectors, 0), atol=1e-5)
    deviation = np.std(np.asarray(vectors, np.float64), 0)
    np.testing.assert_allclose(scale.deviation, deviation, atol=1e-4)


def test_classes_of_all_splits_are_known_and_training_rows_counted(learned):
    _, _, state = learned()
    assert state.classes == ("blue", "green", "red")
    assert state.class_rows == (8, 8, 8) and state.task == "multiclass"


def test_the_same_rows_and_settings_are_analysed_once(learned, monkeypatch):
    *_, before = learned()

    def fail(*_):
        raise AssertionError("analysed again")

    monkeypatch.setattr(analyzing, "_analyze", fail)
    *_, again = learned(epochs=9)
    assert again == before
    with pytest.raises(AssertionError, match="analysed again"):
        learned(text={"vocab_size": 3})
