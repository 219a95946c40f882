"""`python -m pipeline.s3`: TFX's own entrypoint, where s3:// can be opened as well.

TensorFlow opens gs:// by itself, and s3:// once tensorflow-io is imported, which TFX
does not do.
"""

import runpy

TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"


def register() -> None:
    """Makes TensorFlow open s3://."""
    import tensorflow_io  # noqa: F401


if __name__ == "__main__":
    register()
    runpy.run_module(TFX_ENTRYPOINT, run_name="__main__", alter_sys=True)
