import json
from types import SimpleNamespace

import numpy as np
import pytest

from mmkeras.config import Config, EvaluateConfig
from mmkeras.evaluation.modality_ablation import fusion_verdict, measure_modalities
from mmkeras.modalities.preprocessing_state import BINARY
from tests import table_factory

NAMES = ("text", "image", "audio")


class Votes:
    """Stands for a model that adds up the votes of those that are there."""

    modalities = NAMES

    def __init__(self, weights):
        self.weights = weights

    def classify(self, inputs, without=()):
        total = np.zeros(len(inputs["present"]))
        for i, m in enumerate(NAMES):
            if m not in without:
                total += self.weights[m] * inputs[m] * inputs["present"][:, i]
        yes = 1 / (1 + np.exp(-total + 0.01))  # no vote is a no
        return np.stack([1 - yes, yes], axis=1)


def rows(n=400, seed=0, **agreement):
    """Votes of +-1 that are right with a chance, and the truth they are about."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    inputs = {"present": np.ones((n, 3), np.float32)}
    for m in NAMES:
        right = rng.random(n) < agreement.get(m, 0.5)
        inputs[m] = np.where(right, 2 * truth - 1, 1 - 2 * truth).astype(np.float32)
    return inputs, np.eye(2)[truth]


TRAINED = SimpleNamespace(
    config=Config(evaluate=EvaluateConfig(bootstrap_resamples=200)),
    state=SimpleNamespace(modalities=NAMES, task=BINARY),
)


def measured(inputs, targets, alone=None, **weights):
    votes = Votes(dict.fromkeys(NAMES, 0.0) | weights)
    return measure_modalities(votes, TRAINED, inputs, targets, alone or {})


def value(found):
    return found["accuracy"]["value"]


def test_every_subset_is_measured_by_what_it_can_see():
    inputs, targets = rows(text=0.9, image=0.7)
    found = measured(inputs, targets, text=2, image=1)
    subsets = found["subsets"]
    assert list(subsets) == [
        "",
        "text",
        "image",
        "audio",
        "text+image",
        "text+audio",
        "image+audio",
        "text+image+audio",
    ]
    assert value(subsets[""]) == targets[:, 0].mean() == value(subsets["audio"])
    assert value(subsets["text+image"]) == value(subsets["text"])  # text outvotes it
    assert value(subsets["text"]) == pytest.approx(0.9, abs=0.05)
    assert value(subsets["image+audio"]) == pytest.approx(0.7, abs=0.05)
    for m, part in found["modalities"].items():
        others = "+".join(n for n in NAMES if n != m)
        assert part["alone"] == subsets[m] and part["without"] == subsets[others]
    assert found["sampled_rows"] == 400


def test_shares_add_up_to_the_whole_and_nothing_brings_nothing():
    inputs, targets = rows(text=0.9, image=0.7)
    found = measured(inputs, targets, text=1.5, image=1)
    shares = {m: s["value"] for m, s in found["shapley"].items()}
    whole = value(found["subsets"]["text+image+audio"]) - value(found["subsets"][""])
    assert sum(shares.values()) == pytest.approx(whole, abs=1e-12)
    assert found["shapley"]["audio"] == {"value": 0, "low": 0, "high": 0}
    assert shares["text"] > shares["image"] > 0
    for share in found["shapley"].values():
        assert share["low"] <= share["value"] <= share["high"]


def test_a_modality_that_carries_nothing_gets_about_nothing_though_it_is_heard():
    inputs, targets = rows(2000, text=0.9, audio=0.5)
    found = measured(inputs, targets, text=2, audio=1)
    assert abs(found["shapley"]["audio"]["value"]) < 0.03
    assert found["shapley"]["text"]["low"] > 0.3


def test_shuffling_takes_away_what_a_modality_says_and_nothing_else():
    inputs, targets = rows(text=0.95, image=0.95)
    found = measured(inputs, targets, text=1)["modalities"]
    assert value(found["text"]["shuffled"]) == pytest.approx(0.5, abs=0.08)
    assert value(found["image"]["shuffled"]) == value(found["text"]["alone"])


def test_shuffling_deals_only_among_the_rows_that_have_it():
    inputs, targets = rows(text=1.0)
    inputs["text"][:] = np.arange(400) + 1
    inputs["present"][::2, 0] = 0
    seen = []

    class Recorder(Votes):
        def classify(self, inputs, without=()):
            seen.append(inputs["text"].copy())
            return super().classify(inputs, without)

    before = inputs["text"].copy()
    votes = Recorder(dict.fromkeys(NAMES, 1.0))
    measure_modalities(votes, TRAINED, inputs, targets, {})
    dealt = next(x for x in seen if (x != before).any())
    np.testing.assert_array_equal(dealt[::2], before[::2])  # those without it
    assert sorted(dealt[1::2]) == sorted(before[1::2])
    np.testing.assert_array_equal(inputs["text"], before)


def test_the_same_seed_gives_the_same_numbers():
    inputs, targets = rows(text=0.8, image=0.7)
    first = measured(inputs, targets, text=1, image=1.2)
    assert measured(inputs, targets, text=1, image=1.2) == first


def test_fusion_helps_where_three_weak_voters_agree():
    inputs, targets = rows(1000, text=0.75, image=0.75, audio=0.75)
    found = measured(inputs, targets, text=1, image=1, audio=1)
    assert found["fusion"]["difference"]["low"] > 0
    verdict = fusion_verdict(found["fusion"])
    assert verdict.startswith("Fusion helps: all modalities together are ")
    assert f"above {found['fusion']['best_alone']} alone (95 % interval +" in verdict


def test_fusion_hurts_where_a_bad_voter_is_loudest():
    inputs, targets = rows(text=0.95, image=0.3)
    found = measured(inputs, targets, text=1, image=2)
    assert found["fusion"]["best_alone"] == "text"
    assert fusion_verdict(found["fusion"]).startswith("Fusion hurts: ")


def test_fusion_of_one_voter_is_not_better_than_that_voter():
    inputs, targets = rows(text=0.9)
    found = measured(inputs, targets, text=1)
    assert found["fusion"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert "not clearly better than text alone" in fusion_verdict(found["fusion"])


def test_a_model_trained_alone_is_the_harder_comparison_where_it_is_better():
    inputs, targets = rows(text=0.7, image=0.6)
    alone = {"image": targets * 0.9 + 0.05}  # never wrong
    found = measured(inputs, targets, alone, text=1)
    assert value(found["modalities"]["image"]["trained_alone"]) == 1
    assert "trained_alone" not in found["modalities"]["text"]
    assert found["fusion"]["best_alone"] == "image" and found["fusion"]["trained_alone"]
    verdict = fusion_verdict(found["fusion"])
    assert "below a model trained on image alone" in verdict


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    folder = table_factory.trained_run(tmp_path_factory)[0]
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_the_subset_of_all_is_the_model_as_it_was_measured(metrics):
    whole = metrics["subsets"]["text+image+audio"]["accuracy"]
    assert whole == metrics["metrics"]["accuracy"]  # with the same interval
    assert metrics["sampled_rows"] == metrics["rows"]


def test_every_run_says_whether_fusion_helps(metrics):
    from mmkeras.reports.summary import metric_lines

    assert metrics["fusion_verdict"].startswith("Fusion ")
    assert metric_lines(metrics)[-1] == metrics["fusion_verdict"]
    shares = sum(s["value"] for s in metrics["shapley"].values())
    subsets = metrics["subsets"]
    whole = value(subsets["text+image+audio"]) - value(subsets[""])
    assert shares == pytest.approx(whole, abs=1e-12)
