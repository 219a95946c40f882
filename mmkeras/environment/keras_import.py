"""Registers the layers of mmkeras when Keras is imported, be it before or after.

So `import mmkeras` stays fast, and `keras.models.load_model` then knows the layers.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import ModuleType


class _KerasFinder(MetaPathFinder):
    """Finds Keras as Python does; the layers are imported when it is complete."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run_module = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run_module(module)
                import_module("mmkeras.layers")

            spec.loader.exec_module = run_and_register
        return spec


def register_layers_with_keras() -> None:
    """Imports the layers now, or after the first `import keras`."""
    if "keras" in sys.modules:
        import_module("mmkeras.layers")
    else:
        sys.meta_path.insert(0, _KerasFinder())
