import numpy as np
import pytest

from mmkeras.modalities.audio.linear_features import summarize_frames


def test_frames_are_summarized_without_padding():
    frames = np.zeros((2, 9, 4))
    frames[0, :5] = np.random.default_rng(0).normal(size=(5, 4))
    features = summarize_frames(frames)
    assert features[0, :4] == pytest.approx(frames[0, :5].mean(axis=0))
    assert features[0, 4:] == pytest.approx(frames[0, :5].std(axis=0))
    assert not features[1].any()
