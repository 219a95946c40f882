import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.types import standard_artifacts

from mmkeras.config import to_dict
from mmkeras.data.dataset import load_dataset, with_detected_encoders
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from pipeline.components import schema_gen, transform
from tests import table_factory
from tests.pipeline import executor_harness


def transformed(examples, config, folder, beam_args=executor_harness.IN_MEMORY):
    """What TFT finds in the rows of an artifact."""
    statistics = executor_harness.artifact(
        standard_artifacts.ExampleStatistics, folder / "stats"
    )
    statistics_gen.Executor(executor_harness.context(folder)).Do(
        {"examples": [examples]},
        {"statistics": [statistics]},
        {"stats_options_json": schema_gen.statistics_options().to_json()},
    )
    schema = executor_harness.artifact(standard_artifacts.Schema, folder / "schema")
    schema_gen.Executor().Do(
        {"statistics": [statistics]},
        {"schema": [schema]},
        {"schema_file": str(folder / "none"), "presence_slack": 0.2},
    )
    graph = executor_harness.artifact(
        standard_artifacts.TransformGraph, folder / "graph"
    )
    settings = {"config": json.dumps(to_dict(config)), "code": ""}
    transform.Executor(executor_harness.context(folder, beam_args)).Do(
        {"examples": [examples], "schema": [schema]},
        {"transform_graph": [graph]},
        {
            "preprocessing_fn": "pipeline.components.transform.preprocessing_fn",
            "custom_config": json.dumps(settings),
            "disable_statistics": 1,
        },
    )
    dataset = load_dataset(examples.uri)
    return transform.read_analysis(
        graph.uri, dataset, with_detected_encoders(config, dataset)
    )


def multilabel():
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
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
        row["label"] = str(i % 11)  # numbers, in their own order
    return rows


def sparse():
    rows = table_factory.make_rows()
    for row in rows:
        row["audio"] = ""
        row["text"] = row["text"] if row["split"] == "test" else ""
    return rows


CHARS = {"tokens": "char"}
PIECES = {"tokens": "wordpiece", "encoder": "bert", "vocab_size": 300}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (table_factory.make_rows, CHARS),
        (multilabel, CHARS),
        (vectors, CHARS),
        (sparse, CHARS),
        (table_factory.make_rows, PIECES),
    ],
)
def test_tft_finds_what_the_plain_program_finds(rows, text, tmp_path):
    rows = rows()
    if rows[3]["text"]:
        rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache")
    config = replace(config, text=replace(config.text, **text))
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    found, plain = transformed(examples, config, tmp_path), ingest(table, config)
    plain = asdict(fit_preprocessing(plain, with_detected_encoders(config, plain)))
    found = asdict(found)
    scales, plain_scales = found.pop("scales"), plain.pop("scales")
    assert found == plain
    assert scales.keys() == plain_scales.keys()
    for modality, scale in scales.items():
        for name, numbers in scale.items():
            # float32 as the graph works in; the last bit may be rounded otherwise
            np.testing.assert_allclose(numbers, plain_scales[modality][name], 2e-7)
