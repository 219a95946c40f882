"""Output layer of each task of classes or numbers, and its units.

The head of a regression has one unit. Its output is standardised, so that losses do not
depend on the unit of the labels; `predicted_values` converts it back.
"""

from keras import ops

from mmkeras.modalities.preprocessing_state import (
    BINARY,
    MULTICLASS,
    REGRESSION,
    PreprocessingState,
)


def head_units(state: PreprocessingState) -> int:
    """Returns the width of the head's output."""
    return 1 if state.task in (BINARY, REGRESSION) else len(state.classes)


def head_activation(task: str) -> str:
    """Returns the name of the activation after the last layer of weights."""
    if task == REGRESSION:
        return "linear"
    return "softmax" if task == MULTICLASS else "sigmoid"


def class_probabilities(probabilities, task: str):
    """Returns (B, C) probabilities or targets, also for the (B, 1) of a binary task."""
    if task != BINARY:
        return probabilities
    return ops.concatenate([1 - probabilities, probabilities], axis=1)


def predicted_values(output, state: PreprocessingState):
    """Returns (B, C) probabilities, or the (B, 1) numbers of a regression.

    `output` is that of the head, (B, 1) or (B, C).
    """
    if state.task != REGRESSION:
        return class_probabilities(output, state.task)
    return output * state.label_scale.deviation + state.label_scale.mean
