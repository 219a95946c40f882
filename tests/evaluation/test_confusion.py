import csv
import io

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.confusion import confusion_csv
from mmkeras.evaluation.metrics import measure
from tests.simulated_predictions import simulate


def parsed(task, classes, n=200):
    """Rows of the CSV for a simulated model, and its targets."""
    targets, probabilities, names = simulate(task, n=n, classes=classes)
    config = EvaluateConfig(bootstrap_resamples=10)
    matrix = measure(targets, probabilities, names, task, config, 0)["confusion_matrix"]
    text = confusion_csv(matrix, names, task)
    return list(csv.DictReader(io.StringIO(text))), matrix, targets


def test_each_pair_that_occurs_has_a_line_with_its_rows():
    names = ["a, b", 'say "x"', "größer"]
    rows, matrix, targets = parsed("multiclass", names)
    counts = {(r["label"], r["predicted"]): int(r["rows"]) for r in rows}
    for i, label in enumerate(names):
        for j, predicted in enumerate(names):
            assert counts.get((label, predicted), 0) == matrix[i][j]
    assert sum(counts.values()) == len(targets)


def test_several_labels_per_row_have_a_line_of_counts_per_class():
    rows, matrix, targets = parsed("multilabel", ["a", "b"])
    assert [row["class"] for row in rows] == ["a", "b"]
    for row, counts, truth in zip(rows, matrix, targets.T, strict=True):
        assert int(row["false_positives"]) == counts[0][1]
        hits, missed = int(row["true_positives"]), int(row["false_negatives"])
        assert (hits, missed) == (counts[1][1], counts[1][0])
        assert hits + missed == truth.sum()
        assert sum(int(row[k]) for k in row if k != "class") == len(targets)


def test_many_classes_have_at_most_one_line_per_row_of_the_data():
    rows, _, targets = parsed("multiclass", [f"c{i}" for i in range(1200)], n=300)
    assert len(rows) <= len(targets)
