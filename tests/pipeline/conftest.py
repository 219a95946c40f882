"""Imports TFX once, without the warnings of its own imports."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_data_validation  # noqa: F401
    import tensorflow_model_analysis  # noqa: F401
    import tfx.v1  # noqa: F401
