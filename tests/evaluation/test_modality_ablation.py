from types import SimpleNamespace

import numpy as np
import pytest

from mmkeras.config import Config, EvaluateConfig
from mmkeras.evaluation.modality_ablation import measure_modalities
from mmkeras.modalities.preprocessing_state import BINARY

NAMES = ("text", "image", "audio")
TRAINED = SimpleNamespace(
    config=Config(evaluate=EvaluateConfig(bootstrap_resamples=200)),
    state=SimpleNamespace(task=BINARY),
)


class VotingPredictor:
    """Fake predictor that sums the weighted votes of the modalities present."""

    def __init__(self, weights):
        self.weights = weights
        self.branches = {name: SimpleNamespace(key=name) for name in weights}
        self.keys = {name: (name,) for name in weights}
        self.inputs = []

    def predict(self, inputs, without=()):
        self.inputs.append(inputs)
        total = np.zeros(len(inputs["present"]))
        for i, m in enumerate(self.branches):
            if m not in without:
                total += self.weights[m] * inputs[m] * inputs["present"][:, i]
        yes = 1 / (1 + np.exp(-total + 0.01))  # no vote is a no
        return np.stack([1 - yes, yes], axis=1)


def votes(n=400, seed=0, **accuracy):
    """Votes of +-1 of a given accuracy per modality, and targets."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    inputs = {"present": np.ones((n, 3), np.float32)}
    for m in NAMES:
        correct = rng.random(n) < accuracy.get(m, 0.5)
        inputs[m] = np.where(correct, 2 * truth - 1, 1 - 2 * truth).astype(np.float32)
    return inputs, np.eye(2)[truth]


def measured(inputs, targets, unimodal=None, **weights):
    predictor = VotingPredictor(dict.fromkeys(NAMES, 0.0) | weights)
    return measure_modalities(predictor, TRAINED, inputs, targets, unimodal or {})


def value(entry):
    return entry["accuracy"]["value"]


def test_every_subset_is_measured():
    inputs, targets = votes(text=0.9, image=0.7)
    result = measured(inputs, targets, text=2, image=1)
    subsets = result["subsets"]
    pairs = ["text+image", "text+audio", "image+audio"]
    assert list(subsets) == ["", *NAMES, *pairs, "text+image+audio"]
    assert value(subsets[""]) == targets[:, 0].mean() == value(subsets["audio"])
    assert value(subsets["text+image"]) == value(subsets["text"])  # text outvotes it
    assert value(subsets["text"]) == pytest.approx(0.9, abs=0.05)
    assert value(subsets["image+audio"]) == pytest.approx(0.7, abs=0.05)
    for m, part in result["modalities"].items():
        others = "+".join(n for n in NAMES if n != m)
        assert part["alone"] == subsets[m] and part["without"] == subsets[others]
    assert result["sampled_rows"] == 400
    assert measured(inputs, targets, text=2, image=1) == result  # by its seed


def test_shares_add_up_and_an_unused_modality_has_none():
    inputs, targets = votes(text=0.9, image=0.7)
    result = measured(inputs, targets, text=1.5, image=1)
    shares = {m: s["value"] for m, s in result["shapley"].items()}
    gain = value(result["subsets"]["text+image+audio"]) - value(result["subsets"][""])
    assert sum(shares.values()) == pytest.approx(gain, abs=1e-12)
    share = result["shapley"]["audio"]
    assert share["value"] == 0 and -0.2 < share["low"] < 0 < share["high"] < 0.2
    assert shares["text"] > shares["image"] > 0
    for share in result["shapley"].values():
        assert share["low"] <= share["value"] <= share["high"]


def test_a_modality_of_chance_has_almost_no_share_though_the_model_uses_it():
    inputs, targets = votes(2000, text=0.9, audio=0.5)
    result = measured(inputs, targets, text=2, audio=1)
    assert abs(result["shapley"]["audio"]["value"]) < 0.03
    assert result["shapley"]["text"]["low"] > 0.3


def test_of_many_modalities_some_subsets_are_measured():
    inputs, targets = votes(text=0.9, image=0.7)
    more = {f"more{i}": inputs["audio"] for i in range(6)}
    present = np.ones((400, 9), np.float32)
    inputs |= {"present": present} | more
    result = measured(inputs, targets, text=2, image=1, **dict.fromkeys(more, 0.0))
    assert result["shapley_orders"] == 38 and len(result["subsets"]) <= 256
    shares = {m: share["value"] for m, share in result["shapley"].items()}
    subsets = result["subsets"]
    gain = value(subsets["+".join(shares)]) - value(subsets[""])
    assert sum(shares.values()) == pytest.approx(gain, abs=1e-12)
    assert shares["text"] > 0.3 and shares["more3"] == 0
    assert value(result["modalities"]["text"]["without"]) < 0.8
    assert "shapley_orders" not in measured(*votes(text=0.9), text=1)


def test_shuffling_a_modality_removes_its_information_only():
    inputs, targets = votes(text=0.95, image=0.95)
    result = measured(inputs, targets, text=1)["modalities"]
    assert value(result["text"]["shuffled"]) == pytest.approx(0.5, abs=0.08)
    assert value(result["image"]["shuffled"]) == value(result["text"]["alone"])


def test_shuffling_permutes_only_the_rows_that_have_the_modality():
    inputs, targets = votes(text=1.0)
    inputs["text"][:] = np.arange(400) + 1
    inputs["present"][::2, 0] = 0
    before = inputs["text"].copy()
    predictor = VotingPredictor(dict.fromkeys(NAMES, 1.0))
    measure_modalities(predictor, TRAINED, inputs, targets, {})
    texts = [x["text"] for x in predictor.inputs]
    shuffled = next(x for x in texts if (x != before).any())
    np.testing.assert_array_equal(shuffled[::2], before[::2])  # those without it
    assert sorted(shuffled[1::2]) == sorted(before[1::2])
    np.testing.assert_array_equal(inputs["text"], before)


@pytest.mark.parametrize(
    "accuracy, weights, sign",
    [
        (dict(text=0.75, image=0.75, audio=0.75), dict(text=1, image=1, audio=1), 1),
        (dict(text=0.95, image=0.3), dict(text=1, image=2), -1),
        (dict(text=0.9), dict(text=1), 0),
    ],
)
def test_fusion_helps_weak_voters_and_hurts_a_good_one(accuracy, weights, sign):
    inputs, targets = votes(1000, **accuracy)
    fusion = measured(inputs, targets, **weights)["fusion"]
    low, high = fusion["difference"]["low"], fusion["difference"]["high"]
    assert (low > 0, high < 0) == (sign > 0, sign < 0)
    assert fusion["best_alone"] == "text" or sign == 1


def test_fusion_is_compared_with_a_unimodal_model_where_that_is_better():
    inputs, targets = votes(text=0.7, image=0.6)
    unimodal = {"image": targets * 0.9 + 0.05}  # never wrong
    result = measured(inputs, targets, unimodal, text=1)
    assert value(result["modalities"]["image"]["trained_alone"]) == 1
    assert "trained_alone" not in result["modalities"]["text"]
    fusion = result["fusion"]
    assert fusion["best_alone"] == "image" and fusion["trained_alone"]
    assert fusion["difference"]["high"] < 0


def test_every_run_has_the_ablation_of_its_model(metrics):
    subsets = metrics["subsets"]
    full = subsets["text+image+audio"]["accuracy"]
    assert full == metrics["metrics"]["accuracy"]  # with the same interval
    assert metrics["sampled_rows"] == metrics["rows"]
    shares = sum(s["value"] for s in metrics["shapley"].values())
    assert shares == pytest.approx(full["value"] - value(subsets[""]), abs=1e-12)
    assert metrics["fusion_verdict"].startswith("Fusion ")
