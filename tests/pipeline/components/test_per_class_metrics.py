from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.components.masked_modality_eval import CHOICE, SCORES
from pipeline.components.per_class_metrics import ByClass


def test_merged_counts_give_the_metrics_of_scikit_learn():
    rng = np.random.default_rng(0)
    (computation,) = ByClass(classes=6).computations(model_names=[""])
    combiner = computation.combiner
    truth = np.eye(7)[rng.integers(0, 5, 300)]  # never class 5
    scores = rng.dirichlet(np.ones(6), 300) * 0.7 + 0.3 * truth[:, :6]
    accumulators = [combiner.create_accumulator() for _ in range(3)]
    for i, score in enumerate(scores):
        prediction = {SCORES: score, CHOICE: np.eye(7)[score.argmax()]}
        row = SimpleNamespace(labels={CHOICE: truth[i]}, predictions=prediction)
        accumulators[i % 3] = combiner.add_input(accumulators[i % 3], row)
    result = combiner.extract_output(combiner.merge_accumulators(accumulators))
    assert set(result) == set(computation.keys)
    values = {
        (key.name, key.sub_key and key.sub_key.class_id): value
        for key, value in result.items()
    }
    for i in range(5):
        auc = sk.roc_auc_score(truth[:, i], scores[:, i])
        assert values["auc", i] == pytest.approx(auc, abs=2e-3)
        assert values["rows", i] == truth[:, i].sum()
    assert np.isnan([values["auc", 5], values["recall", 5]]).all()
    assert values["auc", None] == np.mean([values["auc", i] for i in range(5)])
