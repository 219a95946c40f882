import csv

import numpy as np

from mmkeras.evaluation.predictions import (
    Predictions,
    predict_split,
    write_predictions,
)


def test_training_rows_can_be_predicted_too(trained_model, dataset):
    predictions = predict_split(trained_model, dataset, "val")
    assert predictions.ids == [f"r{i}" for i in range(24, 32)]
    assert predictions.targets.shape == predictions.probabilities.shape == (8, 2)
    targets = predictions.targets.argmax(axis=1)
    np.testing.assert_array_equal(targets, [1, 0] * 4)  # red, green


def test_the_file_has_one_column_per_class_with_six_digits(tmp_path):
    predictions = Predictions(
        ids=["a", 'b,"'],
        labels=["x", ""],
        targets=np.eye(2),
        probabilities=np.array([[0.25, 0.75], [1, 1e-9]]),
        predicted=["y", "x"],
        scores=np.array([0.75, 1]),
        status=["ok", "text absent"],
        vectors={},
    )
    write_predictions(tmp_path / "p.csv", predictions, ("x", "y"))
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "predicted", "score", "status", "x", "y"],
            ["a", "x", "y", "0.750000", "ok", "0.250000", "0.750000"],
            ['b,"', "", "x", "1.000000", "text absent", "1.000000", "0.000000"],
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
