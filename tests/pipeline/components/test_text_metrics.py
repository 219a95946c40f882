from types import SimpleNamespace

import numpy as np
import pytest

from mmkeras.evaluation.text_metrics import TEXT_METRICS, measure_texts
from pipeline.components.text_metrics import TextScores, bound_name

ROWS = [
    ("a dog runs|a brown dog runs on grass", "a dog runs"),
    ("two cats sleep", "two cats eat"),
    ("grass", ""),
    ("the red cow|a cow", "The red cow"),
    ("one, two and three", "one and three"),
    ("the small bird sings in a tree", "The small bird sings in a tree"),
]


def scores(rows, parts=1, model=""):
    """Returns name -> value of rows that are collected in several accumulators."""
    (computation,) = TextScores(resamples=50, seed=7).computations(model_names=[model])
    combiner = computation.combiner
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for i, (label, text) in enumerate(rows):
        predictions = {"text": np.array([text])}
        row = SimpleNamespace(
            labels={"text": np.array([label])},
            predictions={model: predictions} if model else predictions,
        )
        accumulators[i % parts] = combiner.add_input(accumulators[i % parts], row)
    result = combiner.extract_output(combiner.merge_accumulators(accumulators))
    assert set(result) == set(computation.keys)
    assert {key.model_name for key in result} == {model}
    return {key.name: value for key, value in result.items()}


def test_values_and_worse_ends_of_intervals_are_those_of_measure_texts():
    result = scores(ROWS)
    labels, texts = zip(*sorted(ROWS), strict=True)
    references = [label.split("|") for label in labels]
    expected = measure_texts(references, texts, resamples=50, seed=7)
    assert result["rows"] == 6 and result["exact_match"] == 3 / 6
    for name in TEXT_METRICS:
        assert result[name] == expected[name]["value"]
        end = "high" if name == "word_error_rate" else "low"
        assert result[f"{name}_{end}"] == expected[name][end] != expected[name]["value"]


def test_results_do_not_depend_on_the_order_of_rows_nor_on_the_model_name():
    assert scores(ROWS[::-1], parts=2, model="candidate") == scores(ROWS)


def test_all_metrics_are_undefined_without_rows():
    result = scores([])
    assert result.pop("rows") == 0
    assert len(result) == 2 * len(TEXT_METRICS)
    assert np.isnan(list(result.values())).all()


@pytest.mark.parametrize(
    ("metric", "name"),
    [("bleu_4", "bleu_4_low"), ("word_error_rate", "word_error_rate_high")],
)
def test_the_worse_end_is_the_upper_one_of_an_error_rate(metric, name):
    assert bound_name(metric) == name
