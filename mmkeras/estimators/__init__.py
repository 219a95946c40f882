"""Estimators in the manner of scikit-learn."""

from mmkeras.environment.tensorflow_import import import_tensorflow

# Here, since unpickling imports a module of this package before any other.
import_tensorflow()
