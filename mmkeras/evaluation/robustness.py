"""Score as noise on one modality grows while the other modalities stay the same."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mmkeras.config.config import vector_columns
from mmkeras.evaluation.scores import score, score_interval
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.modalities.audio.corruption import add_noise
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.corruption import blur
from mmkeras.modalities.text.corruption import drop_words
from mmkeras.schema import AUDIO, IMAGE, MODALITIES, PRESENT, TEXT

# Probability that a word is dropped; standard deviation of the blur as a share of the
# side; signal to noise in dB. The first level of each is the unchanged data.
LEVELS = {
    TEXT: (0.0, 0.25, 0.5, 0.75, 1.0),
    IMAGE: (0.0, 0.01, 0.02, 0.05, 0.1),
    AUDIO: (None, 40.0, 20.0, 10.0, 0.0, -10.0),
}
Corruption = Callable[[bytes, float, list[int]], bytes]


def noise_curves(
    predictor: TwoStagePredictor,
    trained_model: TrainedModel,
    batches: tf.data.Dataset,
    targets: np.ndarray,
) -> dict[str, list[dict]]:
    """Measures the score at each level of noise on one modality.

    `batches` are (B,) strings by modality, N rows in all; `targets` are (N, C).

    Returns:
        Modality -> [{"level", "accuracy": {"value", "low", "high"}}, ...] by level; in
        regression "r2".
        Columns of precomputed vectors are left out. All levels of a modality share the
        bootstrap resamples.
    """
    seed, corruptions = trained_model.config.seed, _corruptions(trained_model)
    probabilities = {m: [[] for _ in LEVELS[m]] for m in corruptions}
    start = 0
    for batch in batches.as_numpy_iterator():
        data = {m: list(batch[m]) for m in predictor.modalities}
        inputs = predictor.encode(data)
        clean = predictor.classify(inputs)
        for m, corrupt in corruptions.items():
            probabilities[m][0].append(clean)
            for level, parts in zip(LEVELS[m][1:], probabilities[m][1:], strict=True):
                contents = [
                    _corrupt(corrupt, content, level, [seed, row])
                    for row, content in enumerate(data[m], start)
                ]
                noisy = replace_modality(predictor, inputs, m, contents)
                parts.append(predictor.classify(noisy))
        start += len(clean)
    return {
        m: _curve(LEVELS[m], parts, targets, trained_model)
        for m, parts in probabilities.items()
    }


def replace_modality(
    predictor: TwoStagePredictor, inputs: Arrays, modality: str, contents: list[bytes]
) -> Arrays:
    """Returns inputs of N rows with new bytes for one modality."""
    values, is_present = predictor.encode_one(modality, contents)
    present = inputs[PRESENT].copy()
    present[:, predictor.modalities.index(modality)] = is_present
    return {**inputs, modality: values, PRESENT: present}


def _corruptions(trained_model: TrainedModel) -> dict[str, Corruption]:
    config, decoders = trained_model.config, MediaDecoders(trained_model.config)
    corruptions: dict[str, Corruption] = {
        TEXT: drop_words,
        IMAGE: lambda data, level, _: blur(data, level, decoders),
        AUDIO: lambda data, level, seed: add_noise(
            data, level, config.audio.rate_hz, decoders, seed
        ),
    }
    names = set(trained_model.state.modalities) - vector_columns(config)
    return {m: corruptions[m] for m in MODALITIES if m in names}


def _corrupt(corrupt, content, level, seed):
    try:
        return corrupt(content, level, seed) if content else content
    except Unreadable:  # unreadable for the model too
        return content


def _curve(levels, probabilities, targets, trained_model) -> list[dict]:
    task, config = trained_model.state.task, trained_model.config
    predictions = [np.concatenate(p) for p in probabilities]
    resamples = config.evaluate.bootstrap_resamples
    values, spread = score(task, targets, predictions, resamples, config.seed)
    return [
        {"level": level, **score_interval(task, value, samples, len(targets))}
        for level, value, samples in zip(levels, values, spread, strict=True)
    ]
