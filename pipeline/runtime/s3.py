"""Container entrypoint that adds s3:// to TFX's own entrypoint.

TensorFlow opens gs:// itself, but s3:// only with tensorflow-io, which has no builds
for Python 3.12 and later. Without it, a component uses the local copies of its
artifacts that Kubeflow's launcher makes, and boto3 for other files.
"""

import json
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmkeras.environment.extras import missing_extra
from mmkeras.errors import UserError
from mmkeras.s3 import SCHEME

TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
# Folder in which Kubeflow's launcher downloads inputs and finds outputs.
LAUNCHER_FOLDER = "/s3/"
_EXECUTION = "--json_serialized_invocation_args"


def main(argv: Sequence[str]) -> None:
    """Runs a component with the arguments of TFX's entrypoint."""
    register()
    if tensorflow_opens_s3():
        _run(argv)
        return
    argv, output_file = _use_local_copies(argv)
    _run(argv)
    if output_file and output_file.exists():
        output = json.loads(output_file.read_text(encoding="utf-8"))
        output = _map_texts(output, lambda uri: _replace(uri, LAUNCHER_FOLDER, SCHEME))
        output_file.write_text(json.dumps(output), encoding="utf-8")


def tensorflow_opens_s3() -> bool:
    """Whether TensorFlow can open s3:// in this environment."""
    return find_spec("tensorflow_io") is not None


def register() -> None:
    """Registers s3:// with TFX, and with TensorFlow if tensorflow-io is installed."""
    if tensorflow_opens_s3():
        import tensorflow_io  # noqa: F401
    else:
        from pipeline.runtime import s3_filesystem

        s3_filesystem.register()


def check(uris: Iterable[str | None], beam_args: dict[str, str]) -> None:
    """Checks that the packages for all `uris` are installed.

    Raises:
        UserError: A URI is s3://, and a package is missing or Beam cannot open it.
    """
    uri = next((uri for uri in uris if uri and uri.startswith(SCHEME)), None)
    if uri is None or tensorflow_opens_s3():
        return
    if find_spec("boto3") is None:
        raise missing_extra("boto3", f"'{uri}'")
    if any(beam_args.values()):
        raise UserError(
            f"kubeflow.beam_args cannot be used with '{uri}': Beam's workers read "
            "s3:// with tensorflow-io, which has no builds for this Python. Leave it "
            "out, or use gs://, or Python 3.10 here and in the image."
        )


def _run(argv: Sequence[str]) -> None:
    sys.argv = [sys.argv[0], *argv]
    try:
        runpy.run_module(TFX_ENTRYPOINT, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise


def _use_local_copies(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Returns arguments with local artifacts, and the path of TFX's output file.

    Other values, such as the table's URI, do not change.
    """
    argv = list(argv)
    if _EXECUTION not in argv[:-1]:
        return argv, None
    index = argv.index(_EXECUTION) + 1
    execution = json.loads(argv[index])
    for side in (execution.get("inputs", {}), execution.get("outputs", {})):
        for artifacts in side.get("artifacts", {}).values():
            for artifact in artifacts.get("artifacts", ()):
                artifact["uri"] = _replace(artifact["uri"], SCHEME, LAUNCHER_FOLDER)
    argv[index] = json.dumps(execution)
    return argv, Path(execution["outputs"]["outputFile"])


def _replace(text: str, old: str, new: str) -> str:
    return new + text.removeprefix(old) if text.startswith(old) else text


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Returns JSON with `change` applied to each text."""
    if isinstance(value, dict):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


if __name__ == "__main__":
    main(sys.argv[1:])
