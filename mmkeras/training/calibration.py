"""Temperature scaling of probabilities; `targets` and `probabilities` are (N, C)."""

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax

from mmkeras.console import say
from mmkeras.data.input_pipeline import Batches
from mmkeras.evaluation.metrics import MIN_PROBABILITY, log_losses
from mmkeras.models.model import set_temperature, with_outputs
from mmkeras.models.tasks import class_probabilities
from mmkeras.schema import PROBABILITIES

_TEMPERATURES = (0.05, 20.0)
# Standard deviation of the prior of log(temperature), whose mean is 0: most models need
# a temperature between 0.4 and 2.7. On simulated models it has a lower log loss than no
# prior with 4 to 25 validation rows, and with 200 it makes no difference. Without a
# prior, a few rows can prefer the limit, where all probabilities are equal.
_PRIOR_DEVIATION = 0.5


def calibrate(model: keras.Model, batches: Batches, task: str) -> None:
    """Fits the temperature of a model to validation batches, and prints it.

    Example:
        calibrate(trained_model.model, val_batches, trained_model.state.task)
    """
    set_temperature(model, 1.0)
    probabilities, targets = predict_batches(model, batches, task)
    temperature = fit_temperature(targets, probabilities, task)
    set_temperature(model, temperature)
    say(
        f"Calibration: temperature {temperature:.2f} from {len(targets):,} validation "
        "rows, with a prior that keeps it near 1 if they are few."
    )


def predict_batches(
    model: keras.Model, batches: Batches, task: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities and targets (N, C) of evaluation batches.

    In regression both are (N, 1) standardized values.
    """
    part = with_outputs(model, batches.feature_keys)
    # Not predict_on_batch: it would return all rows from each of several replicas.
    predict = tf.function(
        lambda x: part(x, training=False)[PROBABILITIES], autograph=False
    )
    pairs = [(predict(x), target) for x, target, _ in batches.eval_batches()]
    probabilities, targets = (
        np.asarray(class_probabilities(np.concatenate(column), task))
        for column in zip(*pairs, strict=True)
    )
    return probabilities, targets


def apply_temperature(
    probabilities: np.ndarray, temperature: float, task: str
) -> np.ndarray:
    """Returns (N, C) probabilities with their logits divided by `temperature`.

    A temperature above 1 lowers the confidence and keeps the top class. For a binary
    task the softmax of the two columns equals the sigmoid of one.
    """
    p = np.asarray(probabilities, "float64")
    clipped = np.clip(p, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    if task == "multilabel":
        return expit(logit(clipped) / temperature)
    return softmax(np.log(clipped) / temperature, axis=1)


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray, task: str) -> float:
    """Returns the temperature in [0.05, 20] with the highest posterior density.

    Its logarithm has a normal prior around 0, so that few rows change it little. In
    multilabel tasks, whose log likelihood is a sum over rows and classes, the prior is
    weaker. It is 1.0 for no rows, and if no other temperature lowers the log loss.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599. Differs in the prior,
    and in that targets are smoothed by one extra row with all classes equal (Platt,
    1999); otherwise the confidence of a model without errors would become infinite.
    """
    truth = np.asarray(targets).astype(bool)
    if not len(truth):
        return 1.0
    uniform = 0.5 if task == "multilabel" else 1 / truth.shape[1]
    soft = (truth * len(truth) + uniform) / (len(truth) + 1)

    def negative_log_posterior(log_temperature: float) -> float:
        p = apply_temperature(probabilities, np.exp(log_temperature), task)
        p = np.clip(p, np.finfo("float64").eps, 1 - np.finfo("float64").eps)
        loss = soft * np.log(p)
        if task == "multilabel":
            loss = loss + (1 - soft) * np.log(1 - p)
        return (log_temperature / _PRIOR_DEVIATION) ** 2 / 2 - float(loss.sum())

    bounds = np.log(_TEMPERATURES)
    minimum = minimize_scalar(negative_log_posterior, bounds=bounds, method="bounded")
    best = float(np.exp(minimum.x))
    before, after = (
        log_losses(truth, apply_temperature(probabilities, t, task), task).mean()
        for t in (1.0, best)
    )
    return best if after < before else 1.0
