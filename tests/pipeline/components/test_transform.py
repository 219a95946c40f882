from dataclasses import asdict, replace

import numpy as np
import pytest

from mmkeras.data.dataset import with_detected_encoders
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from tests import table_factory
from tests.pipeline import executor_harness


def multilabel():
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    for i, row in enumerate(rows):
        row["audio"] = table_factory.vector([i, -i, 3])
    rows[3]["audio"], rows[4]["text"] = "", ""
    for row in rows[::3]:
        row["label"] += "|bright"
    rows[-1]["label"] = "only in test"
    return rows


def vectors():
    rng = np.random.default_rng(0)
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        row["text"] = table_factory.vector(rng.normal(size=5))
        row["audio"] = table_factory.vector(rng.normal(3, 9, size=7)) if i % 5 else ""
        row["label"] = str(i % 11)  # sorted as numbers
    return rows


def sparse():
    rows = table_factory.make_rows()
    for row in rows:
        row["audio"] = ""
        row["text"] = row["text"] if row["split"] == "test" else ""
    return rows


CHARS = {"tokens": "char"}
PIECES = {"tokens": "wordpiece", "encoder": "bert", "vocab_size": 300}


def check_state(state, table, config):
    """Compares a state of TFT with that of the train program."""
    dataset = ingest(table, config)
    expected = asdict(
        fit_preprocessing(dataset, with_detected_encoders(config, dataset))
    )
    state = asdict(state)
    scales, expected_scales = state.pop("scales"), expected.pop("scales")
    assert state == expected
    assert scales.keys() == expected_scales.keys()
    for modality, scale in scales.items():
        for name, numbers in scale.items():
            # float32, as in the graph; the last bit may be rounded differently
            np.testing.assert_allclose(numbers, expected_scales[modality][name], 2e-7)


def test_tft_finds_words_classes_and_scales(tmp_path_factory):
    base = tmp_path_factory.getbasetemp() / "small"
    table, config, _ = executor_harness.small(base)
    _, state = executor_harness.small_transformed(base)
    check_state(state, table, config)


@pytest.mark.parametrize(
    ("make_rows", "text"),
    [
        (multilabel, PIECES),
        pytest.param(vectors, CHARS, marks=pytest.mark.slow),
        pytest.param(sparse, CHARS, marks=pytest.mark.slow),
    ],
)
def test_tft_finds_the_state_of_other_tables(make_rows, text, tmp_path):
    table = table_factory.write_table(tmp_path / "data" / "data.csv", make_rows())
    config = table_factory.tiny_config(tmp_path / "cache")
    config = replace(config, text=replace(config.text, **text))
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    _, state = executor_harness.transformed(examples, config, tmp_path)
    check_state(state, table, config)
