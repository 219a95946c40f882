"""Learning rates of pretrained encoders: lower than the head's, layer by layer."""

from collections.abc import Sequence

import keras

from mmkeras.config import TrainConfig


def layer_ratios(
    encoder: keras.Model, config: TrainConfig, peak: float
) -> dict[int, float]:
    """Returns id of a trainable variable -> its learning rate as a share of `peak`.

    The last variable of the encoder has `fine_tune_rate`, the first `fine_tune_decay`
    of it, and those between follow in equal ratios.

    Source: Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146 (discriminative
    fine-tuning), by the order of the variables.
    """
    variables = encoder.trainable_variables
    last, highest = max(1, len(variables) - 1), config.fine_tune_rate / peak
    return {
        id(variable): highest * config.fine_tune_decay ** (1 - i / last)
        for i, variable in enumerate(variables)
    }


def scale_rates(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    ratios: dict[int, float],
) -> None:
    """Scales the learning rate of variables, the ones that the optimizer will train.

    `ratios` is id of a variable -> factor.
    """
    by_index = [ratios.get(id(variable), 1.0) for variable in variables]
    update = optimizer.update_step

    def update_step(gradient, variable, learning_rate):
        ratio = by_index[optimizer._get_variable_index(variable)]
        return update(gradient, variable, learning_rate * ratio)

    optimizer.update_step = update_step
