"""confusion.csv: which classes are predicted for which, and how often."""

from collections.abc import Sequence

from mmkeras.files import csv_text
from mmkeras.modalities.preprocessing_state import MULTILABEL

_PAIR_COLUMNS = ("label", "predicted", "rows")
_CLASS_COLUMNS = ("class", "true_negatives", "false_positives")
_CLASS_COLUMNS += ("false_negatives", "true_positives")


def confusion_csv(matrix: list, classes: Sequence[str], task: str) -> str:
    """Returns the confusion matrix of `metrics.measure` as the text of a CSV.

    One line per pair of classes that occurs, as the full matrix of many classes has
    mostly zeros; in multilabel tasks one line per class.

    Example:
        >>> print(confusion_csv([[3, 1], [0, 2]], ["cat", "dog"], "binary"))
        label,predicted,rows
        cat,cat,3
        cat,dog,1
        dog,dog,2
    """
    if task == MULTILABEL:
        lines = [[name, *sum(m, [])] for name, m in zip(classes, matrix, strict=True)]
        return csv_text([_CLASS_COLUMNS, *lines])
    pairs = [
        (label, predicted, rows)
        for label, counts in zip(classes, matrix, strict=True)
        for predicted, rows in zip(classes, counts, strict=True)
        if rows
    ]
    return csv_text([_PAIR_COLUMNS, *pairs])
