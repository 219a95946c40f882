"""How accuracy falls when one modality gets worse and the others stay as they are."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mmkeras.config.config import vector_columns
from mmkeras.evaluation.metrics import accuracies, correct, interval
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.audio.corruption import add_noise
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.corruption import blur
from mmkeras.modalities.text.corruption import drop_words
from mmkeras.schema import AUDIO, IMAGE, MODALITIES, PRESENT, TEXT

# Standard deviation of the blur as a share of the side; chance that a word is dropped;
# signal to noise in dB. The first of each is the data as it came.
LEVELS = {
    TEXT: (0.0, 0.25, 0.5, 0.75, 1.0),
    IMAGE: (0.0, 0.01, 0.02, 0.05, 0.1),
    AUDIO: (None, 40.0, 20.0, 10.0, 0.0, -10.0),
}
Corrupt = Callable[[bytes, float, list[int]], bytes]


def noise_curves(
    staged: TwoStagePredictor,
    trained_model: TrainedModel,
    batches: tf.data.Dataset,
    targets: np.ndarray,
) -> dict[str, list[dict]]:
    """Measures accuracy at each level of noise on one modality.

    Args:
        staged: The model.
        trained: The same model, with its settings.
        batches: (B,) strings by modality, as `data.raw_rows` gives them: N rows.
        targets: (N, C) of 0 and 1.

    Returns:
        Modality -> [{"level", "accuracy": {"value", "low", "high"}}, ...] by level.
        Columns of precomputed vectors are left out. All levels of a modality are
        judged on the same bootstrap resamples.
    """
    config, corrupt = trained_model.config, _corruptions(trained_model)
    answers = {m: [[] for _ in LEVELS[m]] for m in corrupt}
    seen = 0
    for batch in batches.as_numpy_iterator():
        data = {m: list(batch[m]) for m in staged.modalities}
        inputs = staged.encode(data)
        clean = staged.classify(inputs)
        rows = range(seen, seen + len(clean))
        for m, worsen in corrupt.items():
            answers[m][0].append(clean)
            for level, found in zip(LEVELS[m][1:], answers[m][1:], strict=True):
                worse = [
                    _worse(worsen, content, level, [config.seed, row])
                    for content, row in zip(data[m], rows, strict=True)
                ]
                found.append(_answer(staged, inputs, m, worse))
        seen += len(clean)
    return {
        m: _curve(LEVELS[m], found, targets, trained_model)
        for m, found in answers.items()
    }


def _corruptions(trained_model: TrainedModel) -> dict[str, Corrupt]:
    config, decoders = trained_model.config, MediaDecoders(trained_model.config)
    corrupt: dict[str, Corrupt] = {
        TEXT: drop_words,
        IMAGE: lambda data, level, _: blur(data, level, decoders),
        AUDIO: lambda data, level, seed: add_noise(
            data, level, config.audio.rate_hz, decoders, seed
        ),
    }
    names = set(trained_model.state.modalities) - vector_columns(config)
    return {m: corrupt[m] for m in MODALITIES if m in names}


def _worse(worsen, content, level, seed):
    try:
        return worsen(content, level, seed) if content else content
    except Unreadable:  # as unreadable to the model as it was
        return content


def _answer(staged, inputs, modality, contents):
    values, there = staged.encode_one(modality, contents)
    present = inputs[PRESENT].copy()
    present[:, staged.modalities.index(modality)] = there
    return staged.classify({**inputs, modality: values, PRESENT: present})


def _curve(levels, found, targets, trained_model) -> list[dict]:
    task, config = trained_model.state.task, trained_model.config
    right = [correct(targets, np.concatenate(p), task) for p in found]
    resamples = config.evaluate.bootstrap_resamples
    values, drawn = accuracies(right, resamples, config.seed)
    return [
        {"level": level, "accuracy": interval(value, spread)}
        for level, value, spread in zip(levels, values, drawn, strict=True)
    ]
