import numpy as np
import pytest

from mmkeras.reports import charts


def point(level, value):
    accuracy = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"level": level, "accuracy": accuracy}


def test_bars_of_negative_shares_end_at_zero_and_of_positive_ones_start_there():
    negative, positive = charts.shares(
        {
            "text": {"value": -0.02, "low": -0.05, "high": 0.01},
            "image": {"value": 0.12, "low": 0.07, "high": 0.18},
        }
    )
    end = negative["left"] + negative["width"]
    assert end == pytest.approx(negative["zero"], abs=0.02)
    assert positive["left"] == pytest.approx(negative["zero"], abs=0.02)
    for bar in (negative, positive):
        assert 0 <= bar["from"] <= bar["from"] + bar["spread"] <= 100.01


def test_all_noise_charts_share_one_scale_and_show_intervals():
    noise = {"audio": [point(None, 0.1)], "image": [point(0, 0.8), point(0.02, 0.7)]}
    axes = {"image": ("Blur", "%", 100), "audio": ("Noise", "dB", 1)}
    audio, image = charts.noise_curves(noise, axes)
    assert (image["heading"], audio["axis"]) == ("Blur", "dB")
    assert image["levels"] == audio["levels"]
    assert [label for _, label in image["ticks"]] == ["clean", "2"]
    for p in image["points"] + audio["points"]:
        assert p["high"] < p["value"] < p["low"]  # y grows downwards
    assert audio["points"][0]["value"] > image["points"][0]["value"]


def test_noise_charts_of_one_kind_name_their_branch():
    axes = dict.fromkeys(("left", "right"), ("Blurred images", "%", 100))
    charts_of_two = charts.noise_curves({"left": [point(0, 1)], "right": []}, axes)
    assert [c["heading"] for c in charts_of_two] == ["Blurred images: left"]


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0, 0.003), (-2, 7), (0.51, 0.52), (3, 3), (0, 1e6)]
)
def test_ticks_are_a_few_round_numbers_around_the_values(low, high):
    ticks = charts.ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low and high <= ticks[-1]
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])
