"""`python -m pipeline.runtime.s3`: TFX's own entrypoint, with s3:// that it can open.

TensorFlow opens gs:// by itself, and s3:// only with tensorflow-io, which has no builds
for Python 3.12 and later. Without it a component reads and writes its artifacts in the
local copies that Kubeflow's launcher makes, and other files through boto3.
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
# Where the launcher puts what it downloads, and looks for what it uploads.
LAUNCHER_FOLDER = "/s3/"
_EXECUTION = "--json_serialized_invocation_args"


def main(argv: Sequence[str]) -> None:
    """Runs a component as TFX's entrypoint does."""
    register()
    if tensorflow_opens_s3():
        _run(argv)
        return
    argv, output_file = _on_local_copies(argv)
    _run(argv)
    if output_file and output_file.exists():
        output = json.loads(output_file.read_text(encoding="utf-8"))
        output = _map_texts(output, lambda uri: _replace(uri, LAUNCHER_FOLDER, SCHEME))
        output_file.write_text(json.dumps(output), encoding="utf-8")


def tensorflow_opens_s3() -> bool:
    """Whether TensorFlow can open s3:// in this environment."""
    return find_spec("tensorflow_io") is not None


def register() -> None:
    """Makes TensorFlow and TFX open s3://; without tensorflow-io, only TFX's fileio."""
    if tensorflow_opens_s3():
        import tensorflow_io  # noqa: F401
    else:
        from pipeline.runtime import s3_filesystem

        s3_filesystem.register()


def check(uris: Iterable[str | None], beam_args: dict[str, str]) -> None:
    """Makes sure that a pipeline whose files are at `uris` can read and write them.

    Raises:
        UserError: One is behind s3://, and what that needs is missing.
    """
    uri = next((uri for uri in uris if uri and uri.startswith(SCHEME)), None)
    if uri is None or tensorflow_opens_s3():
        return
    if find_spec("boto3") is None:
        raise missing_extra("boto3", f"'{uri}'")
    if any(beam_args.values()):
        raise UserError(
            f"kubeflow.beam_args cannot be used with '{uri}': workers of Beam read "
            "s3:// by tensorflow-io, which has no builds for this Python. Leave it "
            "out, or use gs://, or Python 3.10 here and in the image."
        )


def _run(argv: Sequence[str]) -> None:
    sys.argv = [sys.argv[0], *argv]
    try:
        runpy.run_module(TFX_ENTRYPOINT, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise


def _on_local_copies(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Returns arguments with local artifacts, and the file that TFX writes about them.

    The other values, such as the table's URI, stay as they are.
    """
    argv = list(argv)
    if _EXECUTION not in argv[:-1]:
        return argv, None
    place = argv.index(_EXECUTION) + 1
    execution = json.loads(argv[place])
    for side in (execution.get("inputs", {}), execution.get("outputs", {})):
        for artifacts in side.get("artifacts", {}).values():
            for artifact in artifacts.get("artifacts", ()):
                artifact["uri"] = _replace(artifact["uri"], SCHEME, LAUNCHER_FOLDER)
    argv[place] = json.dumps(execution)
    return argv, Path(execution["outputs"]["outputFile"])


def _replace(text: str, old: str, new: str) -> str:
    return new + text.removeprefix(old) if text.startswith(old) else text


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Returns JSON with each of its texts changed."""
    if isinstance(value, dict):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


if __name__ == "__main__":
    main(sys.argv[1:])
