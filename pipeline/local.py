"""`python -m pipeline.local`: the whole life of a model, on one machine."""

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mmkeras.cli import Parser, add_settings, choose_preset, run_program, settings
from mmkeras.environment.extras import check_extras
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.files import check_files, is_remote
from mmkeras.training.run_folder import data_name
from pipeline.settings import PipelineConfig

_MARKER_FILE, _LOCK_FILE = ".lock", ".running"  # as in a run folder
# Of Beam: none, since with any at all TFX packs its own sources for each component;
# the runner in this process is the default.
_BEAM_ARGS: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LocalRunArgs:
    """What the command line asks for, checked.

    Attributes:
        root: Folder of everything.
        data: The table; None is the embedded data set.
        unlabeled: A table to answer with the pushed model, if any.
        schema: Schema file to hold rows against; None is the root's own.
        beam_args: Arguments of Beam.
        config: All settings.
    """

    root: Path
    data: Path | None
    unlabeled: Path | None
    schema: Path | None
    beam_args: tuple[str, ...]
    config: PipelineConfig

    @property
    def schema_file(self) -> Path:
        return self.schema or self.root / "schema" / "schema.pbtxt"

    @property
    def serving_dir(self) -> Path:
        return self.root / "serving" / "mmkeras"


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs the pipeline; returns the exit code."""
    parser = _parser(argv)
    parsed = parser.parse_args(_joined(argv))
    if parsed.root is None:
        raise UserError("--root is missing: give the folder of the pipeline.")
    if is_remote(parsed.root):
        raise UserError(
            f"--root '{parsed.root}' is a URI, and one machine needs a local folder; "
            "python -m pipeline.kubeflow writes to gs:// and s3://."
        )
    root = Path(parsed.root)
    if parsed.status:
        import_tensorflow()
        from pipeline.runtime.lineage import status

        print(status(root))
        return 0
    request = LocalRunArgs(
        root=root,
        data=_file("data", parsed.data),
        unlabeled=_file("unlabeled", parsed.unlabeled),
        schema=_file("schema", parsed.schema),
        beam_args=tuple(shlex.split(parsed.beam_args or "")) or _BEAM_ARGS,
        config=settings(parser, parsed, PipelineConfig),
    )
    check_extras(request.config)
    check_files(request.config.files)
    with _opened(root):
        return _run(request, argv)


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser(
        prog="python -m pipeline.local",
        usage="%(prog)s --root DIR [--data FILE.csv] [--preset NAME] "
        "[--config FILE.yaml] [--SETTING VALUE ...] | --root DIR --status",
        description="Train, judge and push a model through TFX on one machine.",
    )
    for name, metavar, text in (
        ("root", "DIR", "Folder of artifacts, metadata and pushed models."),
        ("data", "FILE.csv", "Table of rows; else the embedded data set."),
        ("unlabeled", "FILE.csv", "Table without labels that the model answers."),
        ("schema", "FILE.pbtxt", "Schema to hold rows against; else the root's own."),
        ("beam_args", "ARGS", "Arguments of Beam, in one quoted word."),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    parser.add_argument(
        "--status",
        action="store_true",
        help="Print how the pushed model came to be, and run nothing.",
    )
    add_settings(parser, choose_preset(argv), PipelineConfig)
    return parser


def _joined(argv: Sequence[str]) -> list[str]:
    """Joins --beam-args and its value, which begins with a dash as flags do."""
    words, joined = iter(argv), []
    for word in words:
        joined.append(f"{word}={next(words, '')}" if word == "--beam-args" else word)
    return joined


def _file(name: str, value: str | None) -> Path | None:
    if value is not None and not Path(value).is_file():
        raise UserError(f"--{name} '{value}' is no file; give the path of one.")
    return Path(value).resolve() if value else None


@contextmanager
def _opened(root: Path) -> Iterator[None]:
    """Makes the root, or takes it for this process alone."""
    if root.exists() and not root.is_dir():
        raise UserError(f"--root '{root}' is a file; give a folder.")
    if root.exists() and not (root / _MARKER_FILE).exists() and any(root.iterdir()):
        raise UserError(
            f"--root '{root}' is not empty and holds no pipeline; give a new folder."
        )
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARKER_FILE).open("a").close()
    try:
        lock = FileLock(root / _LOCK_FILE).acquire(blocking=False)
    except Timeout:
        raise UserError(f"Another process runs a pipeline in '{root}'.") from None
    with lock:
        yield


def _run(request: LocalRunArgs, argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    log = request.root / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}.log"
    current = ""
    try:
        import_tensorflow()
        pipeline, total = _pipeline(request)
        from pipeline.runtime.progress import log_progress, redirect_output

        print(f"Log: {log}", flush=True)
        with redirect_output(log, total) as progress, log_progress(progress):
            try:
                _launch(pipeline)
                lines, pushed = _outcome(request.root)
            except BaseException:
                current = progress.current
                raise
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", "pipeline.local", *argv])
        where = f" in {current}" if current else ""
        print(f"\nInterrupted{where}. To go on: {again}", file=sys.stderr)
        return 130
    except UserError as error:
        raise UserError(f"{current}: {error}" if current else str(error)) from error
    except Exception:
        if current:
            print(f"\n{current} failed; see {log}.", file=sys.stderr)
        raise
    print(lines)
    return 0 if pushed else 1


def _pipeline(request: LocalRunArgs):
    """Returns the pipeline, and the number of its components."""
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.orchestration import metadata
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types import Channel
    from tfx.types.standard_artifacts import Model, ModelBlessing

    from mmkeras.data import demo_dataset
    from pipeline import graph
    from pipeline.components.pusher import newest_version
    from pipeline.components.schema_gen import edited_hash
    from pipeline.runtime.blessed_model_resolver import PreviousBlessedModelStrategy
    from pipeline.runtime.lineage import METADATA_FILE

    root, config = request.root.resolve(), request.config
    table = (
        request.data
        or demo_dataset.make_dataset(demo_dataset.default_folder()) / "data.csv"
    )
    schema_file = str(request.schema_file.resolve())
    source, serving_dir = _source(table, config), str(request.serving_dir.resolve())
    places = graph.OutputPaths(
        schema_file=schema_file,
        edited=edited_hash(schema_file, source.fingerprint),
        serving_dir=serving_dir,
        newest_version=newest_version(serving_dir),
    )
    nodes = graph.build_training(source, config, places)
    baseline = Resolver(
        strategy_class=PreviousBlessedModelStrategy,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
        candidate=nodes["Trainer"].outputs["model"],
    ).with_id("LastBlessed")
    nodes["LastBlessed"] = baseline
    nodes |= graph.build_release(nodes, config, places, baseline.outputs["model"])
    if request.unlabeled:
        source = _source(request.unlabeled, config, labeled=False)
        nodes |= graph.build_inference(nodes, config, source)
    connection = metadata.sqlite_metadata_connection_config(str(root / METADATA_FILE))
    pipeline = Pipeline(
        pipeline_name=graph.PIPELINE_NAME,
        pipeline_root=str(root / "artifacts"),
        components=list(nodes.values()),
        enable_cache=True,
        metadata_connection_config=connection,
        beam_pipeline_args=list(request.beam_args),
    )
    return pipeline, len(nodes)


def _source(table: Path, config: PipelineConfig, labeled: bool = True):
    from mmkeras.data.ingest_plan import plan_ingest
    from mmkeras.schema import TEST
    from pipeline.fingerprint import files_hash
    from pipeline.graph import DataSource

    only = None if labeled else TEST
    plan = plan_ingest(table, config.plain, only=only, labeled=labeled)
    return DataSource(
        table=data_name(table),
        fingerprint=plan.fingerprint,
        files=files_hash(config.files),
    )


def _launch(pipeline) -> None:
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    LocalDagRunner().run(pipeline)


def _outcome(root: Path) -> tuple[str, bool]:
    from pipeline.runtime.summary import run_summary

    return run_summary(root)


if __name__ == "__main__":
    run_program(main)
