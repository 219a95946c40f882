"""The same model through TFX, on one machine and on Kubeflow."""

_ARTIFACTS = ("RejectedRows", "MediaStatistics", "DataBlessing")


def __getattr__(name: str) -> type:
    """Returns an artifact type: TFX on Kubeflow looks for it in this package.

    Imported only then, as `pipeline.components.artifacts` imports TFX.
    """
    if name in _ARTIFACTS:
        from pipeline.components import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
