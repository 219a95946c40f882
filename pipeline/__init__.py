"""The same model through TFX, on one machine and on Kubeflow."""

_ARTIFACTS = ("RejectedRows", "MediaStatistics", "DataBlessing")


def __getattr__(name: str) -> type:
    """Gives a type of `pipeline.artifacts`, where TFX looks for it on Kubeflow.

    Only then, as `pipeline.artifacts` imports TFX.
    """
    if name in _ARTIFACTS:
        from pipeline import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
