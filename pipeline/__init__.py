"""TFX pipeline that trains, validates and pushes a model, locally or on Kubeflow."""

_ARTIFACTS = ("RejectedRows", "MediaStatistics", "DataBlessing")


def __getattr__(name: str) -> type:
    """Returns an artifact type, which TFX on Kubeflow looks up in this package.

    The import is lazy because `pipeline.components.artifacts` imports TFX.
    """
    if name in _ARTIFACTS:
        from pipeline.components import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
