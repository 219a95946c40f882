"""Losses and metrics of each task."""

import keras

from mmkeras.preprocess.analysis import MULTICLASS


def build_loss(task: str, label_smoothing: float) -> keras.losses.Loss:
    """Cross-entropy on probabilities: over classes, or of each unit on its own."""
    if task == MULTICLASS:
        return keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
    return keras.losses.BinaryCrossentropy(label_smoothing=label_smoothing)


def build_metrics(task: str) -> list[keras.metrics.Metric]:
    """Returns accuracy and area under the ROC curve, named "accuracy" and "auc"."""
    accuracy = (
        keras.metrics.CategoricalAccuracy
        if task == MULTICLASS
        else keras.metrics.BinaryAccuracy
    )
    return [
        accuracy(name="accuracy"),
        keras.metrics.AUC(name="auc", multi_label=task != MULTICLASS),
    ]
