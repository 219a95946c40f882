from dataclasses import replace

import numpy as np
import pytest

from mmkeras import analyze as analyzing
from mmkeras.analyze import analyze
from mmkeras.data import raw_rows
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.records import ingest
from tests import tables


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Gives rows, of which some lack a modality, and what they teach; by settings."""
    base = tmp_path_factory.mktemp("data")
    rows = tables.make_rows(classes=("red", "green", "blue"))
    rows[3]["audio"] = rows[4]["image"] = rows[5]["text"] = ""
    for row in rows[24:]:  # words that training must not know
        row["text"] += " unseen"
    table = tables.write_table(base / "data.csv", rows)
    ingested = ingest(table, tables.tiny_config(base / "cache"))

    def learn(**changes):
        config = tables.tiny_config(base / "cache", **changes)
        return ingested, config, analyze(ingested, config)

    return learn


def test_vocabulary_and_scales_come_from_the_training_rows_only(learned):
    ingested, config, analysis = learned(text={"vocab_size": 64, "min_rows": 1})
    assert "fresh" in analysis.vocabulary and "unseen" not in analysis.vocabulary
    assert len(analysis.idf) == len(analysis.vocabulary) == analysis.widths["text"]

    scale = analysis.scales["audio"]
    unscaled = Preprocessor(config, replace(analysis, scales={}))
    strings = [row["audio"] for row in raw_rows(ingested.files("train"), ["audio"])]
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
    _, _, analysis = learned()
    assert analysis.classes == ("blue", "green", "red")
    assert analysis.class_rows == (8, 8, 8) and analysis.task == "multiclass"


def test_the_same_rows_and_settings_are_analysed_once(learned, monkeypatch):
    *_, before = learned()

    def fail(*_):
        raise AssertionError("analysed again")

    monkeypatch.setattr(analyzing, "_analyze", fail)
    *_, again = learned(epochs=9)
    assert again == before
    with pytest.raises(AssertionError, match="analysed again"):
        learned(text={"vocab_size": 3})
