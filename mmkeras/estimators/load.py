"""Estimators of finished runs, whether trained in Python or by a program."""

from pathlib import Path

from mmkeras.estimators.classifier import MultimodalClassifier
from mmkeras.estimators.labels import LabelForm
from mmkeras.estimators.regressor import MultimodalRegressor
from mmkeras.export.inference import load_trained
from mmkeras.export.run_manifest import read_manifest
from mmkeras.training.process_state import restored_state


def load(path: str | Path) -> MultimodalClassifier | MultimodalRegressor:
    """Returns the fitted estimator of a run folder.

    Its settings are those of the run.

    Raises:
        UserError: The folder holds no run, or no trained model.

    Example:
        model = mmkeras.load("runs/a").model  # the keras.Model
    """
    with restored_state():
        trained_model = load_trained(Path(path))
    is_classifier = bool(trained_model.state.classes)
    kind = MultimodalClassifier if is_classifier else MultimodalRegressor
    estimator = kind(path=path, settings=trained_model.config)
    form = LabelForm(**read_manifest(Path(path)).get("labels", {}))
    return estimator.attach(Path(path), trained_model, form)
