"""Multimodal classifiers in Keras, trained from a table and served as a SavedModel.

Example:
    import mmkeras

    clf = mmkeras.MultimodalClassifier(preset="small-concat", path="runs/a")
    clf.fit(df, label="adopted")  # a pandas DataFrame, or any table file
    clf.predict(df), clf.evaluate(df)
    clf.export("served")
    clf = mmkeras.load("runs/a")

The names are imported when they are used. After `import mmkeras`,
`keras.models.load_model` knows the layers of a run.
"""

from importlib import import_module
from typing import Any

from mmkeras.environment.keras_import import register_layers_with_keras

__version__ = "0.2.0"
# Public name -> "module" or "module:name in it". Those of `_LIGHT` need no TensorFlow.
_LIGHT = {
    "Config": "mmkeras.config:Config",
    "UserError": "mmkeras.errors:UserError",
    "presets": "mmkeras.config.presets:PRESETS",
    "shapley": "mmkeras.evaluation.shapley:shapley_values",
}
_PUBLIC = _LIGHT | {
    "MultimodalClassifier": "mmkeras.estimators.classifier:MultimodalClassifier",
    "MultimodalGenerator": "mmkeras.estimators.generator:MultimodalGenerator",
    "MultimodalRegressor": "mmkeras.estimators.regressor:MultimodalRegressor",
    "build_model": "mmkeras.models.model:build_model",
    "cross_validate": "mmkeras.estimators.cross_validation:cross_validate",
    "export_saved_model": "mmkeras.export.saved_model:export",
    "fuse": "mmkeras.models.fusion:fuse",
    "layers": "mmkeras.layers",
    "load": "mmkeras.estimators.load:load",
    "verify_export": "mmkeras.export.verification:verify_export",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mmkeras' has no attribute '{name}'")
    if name not in _LIGHT:
        import_module("mmkeras.environment.tensorflow_import").import_tensorflow()
    module, _, attribute = _PUBLIC[name].partition(":")
    value = import_module(module)
    globals()[name] = getattr(value, attribute) if attribute else value
    return globals()[name]


def __dir__() -> list[str]:
    return __all__


register_layers_with_keras()
