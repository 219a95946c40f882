import numpy as np

from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.top_errors import top_errors


def test_wrong_predictions_are_sorted_by_score_and_have_media(trained_model, dataset):
    labels = ["red", "green"] * 4
    predictions = Predictions(
        ids=[f"r{i}" for i in range(32, 40)],
        labels=labels,
        targets=np.zeros((8, 2)),
        probabilities=np.zeros((8, 2)),
        predicted=[*labels[:5], "red", "green", "green|red"],
        scores=np.array([1.0] * 5 + [0.5, 0.6, 0.8]),
        status=["ok"] * 8,
        vectors={},
    )
    errors = top_errors(trained_model, dataset, "test", predictions)
    assert [(e.id, e.score) for e in errors] == [("r39", 0.8), ("r38", 0.6)]
    contents = [{n: p["content"] for n, p in e.previews.items()} for e in errors]
    texts = [content["text"] for content in contents]
    assert texts == ["fresh grass number 39", "warm fire number 38"]
    assert all(content["image"].startswith(b"\x89PNG") for content in contents)
    assert all(content["audio"].startswith(b"RIFF") for content in contents)
