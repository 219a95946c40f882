import json
from dataclasses import replace

import numpy as np
import pytest

from mmkeras.data.ingest import ingest
from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.task_metrics import measure_task
from mmkeras.evaluation.text_baselines import find_nearest, measure_text_baselines
from tests import table_factory
from tests.generator_models import untrained_generator


def blocks(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(rows, 3)).astype("float32"),
        "text": rng.normal(size=(rows, 20)).astype("float32"),
        "present": np.ones((rows, 2), "float32"),
    }


def test_a_row_is_nearest_to_itself():
    rows = blocks(700)
    queries = {name: x[::-1] for name, x in rows.items()}
    np.testing.assert_array_equal(find_nearest(rows, queries), np.arange(700)[::-1])


def test_the_nearest_row_is_that_of_the_largest_sum_of_cosines():
    rows, queries = blocks(30), blocks(8, seed=1)

    def vectors(values, name):
        x = rows[name]
        standardized = (values[name] - x.mean(axis=0)) / x.std(axis=0)
        return standardized / np.linalg.norm(standardized, axis=1, keepdims=True)

    names = ("image", "text")
    cosines = sum(vectors(queries, n) @ vectors(rows, n).T for n in names)
    np.testing.assert_array_equal(find_nearest(rows, queries), cosines.argmax(axis=1))


def test_the_width_and_the_unit_of_a_block_do_not_matter():
    rows, queries = blocks(30), blocks(8, seed=1)
    expected = find_nearest(rows, queries)
    wide = {"image": np.tile, "text": lambda x, _: 1000 * x + 5}
    wide["present"] = lambda x, _: x
    rows, queries = (
        {name: wide[name](x, (1, 9)) for name, x in part.items()}
        for part in (rows, queries)
    )
    np.testing.assert_array_equal(find_nearest(rows, queries), expected)


def test_constant_features_and_rows_of_zeros_have_a_nearest_row():
    rows = {"image": np.ones((4, 2)), "text": np.zeros((4, 3))}
    rows["present"] = np.ones((4, 2))
    assert find_nearest(rows, {n: x[:2] for n, x in rows.items()}).shape == (2,)


def test_a_branch_that_is_absent_does_not_decide():
    rows = blocks(200)
    rows["text"][:2] = rows["present"][:2, 1] = 0
    queries = {name: x[50:60].copy() for name, x in rows.items()}
    queries["text"][:] = queries["present"][:, 1] = 0
    np.testing.assert_array_equal(find_nearest(rows, queries), np.arange(50, 60))


@pytest.fixture(scope="module")
def measured(generator_run):
    return json.loads((generator_run / "metrics.json").read_text(encoding="utf-8"))


def test_both_baselines_are_measured_on_the_rows_of_the_model(measured):
    baselines = measured["baselines"]
    assert set(baselines) == {"most_frequent", "nearest_row"}
    frequent, nearest = (
        baselines[name]["exact_match"]["value"]
        for name in ("most_frequent", "nearest_row")
    )
    # Half of the images have the most frequent colour, and colours tell images apart.
    assert frequent == 0.5 and nearest == 1


def test_the_model_is_compared_with_the_better_baseline(measured):
    score = measured["metrics"]["exact_match"]["value"]
    difference = measured["difference"]
    assert difference["value"] == pytest.approx(score - 1)
    assert "the text of the nearest training row" in measured["verdict"]


def predictions(targets, texts):
    n = len(texts)
    return Predictions(
        ids=[f"r{i}" for i in range(n)],
        labels=targets,
        targets=np.array(targets, object),
        probabilities=np.array(texts, object),
        predicted=texts,
        scores=np.zeros(n),
        status=["ok"] * n,
        vectors={},
    )


def test_without_training_rows_the_most_frequent_text_is_the_only_baseline():
    generator = untrained_generator()
    rows = predictions(["a cow", "a red cow|a cow", "red", "green"], ["red"] * 4)
    metrics = measure_task(generator, rows.targets, rows.probabilities)["metrics"]
    result = measure_text_baselines(
        generator, None, "test", rows, {}, None, metrics, 100
    )
    assert list(result["baselines"]) == ["most_frequent"]
    # The most frequent text is "a cow", right in two rows; "red" is in one.
    assert result["baselines"]["most_frequent"]["exact_match"]["value"] == 0.5
    assert result["difference"]["value"] == pytest.approx(-0.25)
    assert "the better baseline" not in result["verdict"]


def test_rows_with_missing_branches_have_the_text_of_the_nearest_by_the_others(
    tmp_path,
):
    generator = untrained_generator()
    rows = table_factory.make_rows(["train"] * 6 + ["val"] * 2 + ["test"] * 6)
    for row, names in zip(rows[8:], [("image",)] * 4 + [("audio",)] * 2, strict=True):
        row |= {name: "" for name in ("text", "image", "audio") if name not in names}
    rows[0]["image"] = rows[1]["audio"] = ""
    table = table_factory.write_table(tmp_path / "t.csv", rows)
    settings = replace(generator.config.table, cache_dir=str(tmp_path / "cache"))
    dataset = ingest(table, replace(generator.config, table=settings))
    targets = [row["label"] for row in rows[8:]]
    sample = {name: np.zeros((6, 1)) for name in ("text", "image", "audio", "present")}
    test_rows = predictions(targets, ["cow"] * 6)
    metrics = measure_task(generator, targets, test_rows.predicted)["metrics"]
    result = measure_text_baselines(
        generator, dataset, "test", test_rows, sample, dataset, metrics, 100
    )
    assert result["baselines"]["nearest_row"]["exact_match"]["value"] == 1
    assert result["baselines"]["most_frequent"]["exact_match"]["value"] == 0
