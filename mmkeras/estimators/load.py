"""Estimators of finished runs, whether trained in Python or by a program."""

from pathlib import Path

from mmkeras.estimators.classifier import MultimodalClassifier
from mmkeras.estimators.estimator import Estimator
from mmkeras.estimators.generator import MultimodalGenerator
from mmkeras.estimators.labels import LabelForm
from mmkeras.estimators.regressor import MultimodalRegressor
from mmkeras.export.inference import load_trained
from mmkeras.export.run_manifest import read_manifest
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.training.process_state import restored_state

# Task -> its estimator; of others the classifier.
_ESTIMATORS = {REGRESSION: MultimodalRegressor, GENERATE: MultimodalGenerator}


def load(path: str | Path) -> Estimator:
    """Returns the fitted estimator of a run folder: that of the run's task.

    Its settings are those of the run.

    Raises:
        UserError: The folder holds no run, or no trained model.

    Example:
        model = mmkeras.load("runs/a").model  # the keras.Model
    """
    with restored_state():
        trained_model = load_trained(Path(path))
    kind = _ESTIMATORS.get(trained_model.state.task, MultimodalClassifier)
    estimator = kind(path=path, settings=trained_model.config)
    form = LabelForm(**read_manifest(Path(path)).get("labels", {}))
    return estimator.attach(Path(path), trained_model, form)
