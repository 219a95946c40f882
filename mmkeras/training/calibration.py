"""Calibration of probabilities by a temperature.

Shapes as in metrics.py: `targets` and `probabilities` are (N, C).
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax

from mmkeras.evaluation.metrics import LOWEST, log_losses

TEMPERATURES = (0.05, 20.0)


def apply_temperature(
    probabilities: np.ndarray, temperature: float, task: str
) -> np.ndarray:
    """Returns (N, C) probabilities with their logits divided by `temperature`.

    Above 1 the model becomes less sure, and the top class stays what it was. For a
    binary task the softmax of the two columns equals the sigmoid of one.
    """
    clipped = np.clip(np.asarray(probabilities, "float64"), LOWEST, 1 - LOWEST)
    if task == "multilabel":
        return expit(logit(clipped) / temperature)
    return softmax(np.log(clipped) / temperature, axis=1)


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray, task: str) -> float:
    """Returns the temperature in [0.05, 20] that best calibrates validation rows.

    It is 1.0 for no rows, and when no other lowers the log loss.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599. Differs in that the
    targets are softened as by one more row of all classes equally (as Platt, 1999,
    does), or a model without an error would be made infinitely sure.
    """
    truth = np.asarray(targets).astype(bool)
    if not len(truth):
        return 1.0
    flat = 0.5 if task == "multilabel" else 1 / truth.shape[1]
    soft = (truth * len(truth) + flat) / (len(truth) + 1)

    def softened_loss(log_temperature: float) -> float:
        p = apply_temperature(probabilities, np.exp(log_temperature), task)
        p = np.clip(p, np.finfo("float64").eps, 1 - np.finfo("float64").eps)
        loss = soft * np.log(p)
        if task == "multilabel":
            loss = loss + (1 - soft) * np.log(1 - p)
        return -float(loss.sum())

    found = minimize_scalar(
        softened_loss, bounds=np.log(TEMPERATURES), method="bounded"
    )
    best = float(np.exp(found.x))
    before, after = (
        log_losses(truth, apply_temperature(probabilities, t, task), task).mean()
        for t in (1.0, best)
    )
    return best if after < before else 1.0
