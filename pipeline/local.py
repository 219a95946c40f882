"""Program `python -m pipeline.local`: runs the TFX pipeline on one machine."""

import errno
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmkeras.cli import (
    INTERRUPTED,
    Parser,
    add_settings,
    choose_preset,
    interruptible,
    print_warnings,
    run_program,
    settings,
)
from mmkeras.config import Config
from mmkeras.environment.extras import check_extras
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.files import (
    check_file,
    check_files,
    check_table,
    exclusive_lock,
    is_remote,
)
from mmkeras.full_disk import find_full_disk
from mmkeras.path_patterns import check_no_pattern
from mmkeras.training.run_folder import data_name
from pipeline.settings import PipelineConfig

_MARKER_FILE, _LOCK_FILE = ".lock", ".running"  # as in a run folder


@dataclass(frozen=True, kw_only=True)
class LocalRunArgs:
    """Checked values of the flags.

    Attributes:
        data: Table of rows; None is the demo data set.
        schema: Schema file to validate rows against; None is the root's own.
        beam_args: Arguments of Beam. None by default: with any, TFX packs its own
            sources for each component.
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
    parsed = parser.parse_args(_join_beam_args(argv))
    if parsed.root is None:
        raise UserError("--root is missing: give the folder of the pipeline.")
    if is_remote(parsed.root):
        raise UserError(
            f"--root '{parsed.root}' is a URI, and one machine needs a local folder; "
            "python -m pipeline.kubeflow writes to gs:// and s3://."
        )
    root = Path(parsed.root)
    check_no_pattern("--root", root.resolve())
    if parsed.status:
        import_tensorflow()
        from pipeline.runtime.lineage import status

        print(status(root))
        return 0
    args = LocalRunArgs(
        root=root,
        data=None if parsed.data is None else check_table(parsed.data).resolve(),
        unlabeled=_file("--unlabeled", parsed.unlabeled),
        schema=_file("--schema", parsed.schema),
        beam_args=tuple(shlex.split(parsed.beam_args or "")),
        config=settings(parser, parsed, PipelineConfig),
    )
    check_extras(args.config)
    check_files(args.config.files)
    with _locked_root(root):
        return _run(args, argv)


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser(
        prog="python -m pipeline.local",
        usage="%(prog)s --root DIR [--data FILE.csv] [--preset NAME] "
        "[--config FILE.yaml] [--SETTING VALUE ...] | --root DIR --status",
        description="Train, evaluate and push a model through TFX on one machine.",
    )
    for name, metavar, text in (
        ("root", "DIR", "Folder of artifacts, metadata and pushed models."),
        ("data", "FILE.csv", "Table of rows (default: the demo data set)."),
        ("unlabeled", "FILE.csv", "Table without labels that the model predicts."),
        ("schema", "FILE.pbtxt", "Schema to check rows against, else the root's own."),
        ("beam_args", "ARGS", "Arguments of Beam, as one quoted text."),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    parser.add_argument(
        "--status",
        action="store_true",
        help="Print the lineage of the pushed model, and run nothing.",
    )
    add_settings(parser, choose_preset(argv, has_demo=True), PipelineConfig)
    return parser


def _join_beam_args(argv: Sequence[str]) -> list[str]:
    """Joins --beam-args and its value, which begins with a dash as flags do."""
    words, result = iter(argv), []
    for word in words:
        result.append(f"{word}={next(words, '')}" if word == "--beam-args" else word)
    return result


def _file(flag: str, value: str | None) -> Path | None:
    return None if value is None else check_file(flag, value).resolve()


@contextmanager
def _locked_root(root: Path) -> Iterator[None]:
    """Creates the root and locks it for this process."""
    if root.exists() and not root.is_dir():
        raise UserError(f"--root '{root}' is a file; give a folder.")
    if root.exists() and not (root / _MARKER_FILE).exists() and any(root.iterdir()):
        raise UserError(
            f"--root '{root}' is not empty and holds no pipeline; give a new folder."
        )
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARKER_FILE).open("a").close()
    message = f"Another process runs a pipeline in '{root}'. Wait for it, or give "
    with exclusive_lock(root / _LOCK_FILE, message + "another --root."):
        yield


def _run(args: LocalRunArgs, argv: Sequence[str]) -> int:
    log = args.root / "logs" / f"{datetime.now():%Y%m%d-%H%M%S}.log"
    current = ""
    try:
        with interruptible() as signals:
            import_tensorflow()
            pipeline = _pipeline(args)
            from tfx.orchestration.local.local_dag_runner import LocalDagRunner

            from pipeline.runtime.progress import redirect_output, report_progress
            from pipeline.runtime.summary import run_summary

            print(f"Log: {log}", flush=True)
            with (
                redirect_output(log, len(pipeline.components)) as progress,
                report_progress(progress, signals),
            ):
                try:
                    LocalDagRunner().run(pipeline)
                    summary, is_pushed = run_summary(args.root)
                except BaseException:
                    current = progress.current
                    raise
    except KeyboardInterrupt:
        command = shlex.join(["python", "-m", "pipeline.local", *argv])
        component = f" in {current}" if current else ""
        print(f"\nInterrupted{component}. To go on: {command}", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        raise UserError(f"{current}: {error}" if current else str(error)) from error
    except Exception as error:
        if full := find_full_disk(error):
            raise _full_disk_error(full, args.root, current) from error
        if current:
            print(f"\n{current} failed; see {log}.", file=sys.stderr)
        raise
    print(summary)
    return 0 if is_pushed else 1


def _full_disk_error(full: OSError, root: Path, current: str) -> OSError:
    """Returns the error with a path, and with the running component if there is one."""
    from pipeline.runtime.lineage import METADATA_FILE

    is_database = full.errno == errno.EIO
    path = full.filename or str(root / METADATA_FILE if is_database else root)
    text = f"{full.strerror}; {current} was running" if current else full.strerror
    return OSError(full.errno, text, path)


def _pipeline(args: LocalRunArgs):
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.orchestration import metadata
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types import Channel
    from tfx.types.standard_artifacts import Model, ModelBlessing

    from mmkeras.data.columns import describe_roles, find_columns
    from mmkeras.data.demo_tables import table_or_demo
    from mmkeras.data.table import check_columns
    from mmkeras.modalities.pretrained import fetch_pretrained
    from pipeline import graph
    from pipeline.components.pusher import newest_version
    from pipeline.components.schema_gen import edited_hash
    from pipeline.runtime.blessed_model_resolver import PreviousBlessedModelStrategy
    from pipeline.runtime.lineage import METADATA_FILE

    root, config = args.root.resolve(), args.config
    schema_file = str(args.schema_file.resolve())
    table = table_or_demo(args.data, config.plain.task)
    resolved, roles = find_columns(table, config.plain)
    print(describe_roles(roles))
    if args.unlabeled:
        check_columns(args.unlabeled, list(resolved.columns))
    fetch_pretrained(resolved)
    source = _source(table, config.plain, labeled=True)
    serving_dir = str(args.serving_dir.resolve())
    paths = graph.OutputPaths(
        schema_file=schema_file,
        edited=edited_hash(schema_file, source.fingerprint),
        serving_dir=serving_dir,
        newest_version=newest_version(serving_dir),
    )
    nodes = graph.build_training(source, config, paths)
    baseline = Resolver(
        strategy_class=PreviousBlessedModelStrategy,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
        candidate=nodes["Trainer"].outputs["model"],
    ).with_id("LastBlessed")
    nodes["LastBlessed"] = baseline
    nodes |= graph.build_release(nodes, config, paths, baseline.outputs["model"])
    if args.unlabeled:
        source = _source(args.unlabeled, resolved, labeled=False)
        nodes |= graph.build_inference(nodes, config, source)
    connection = metadata.sqlite_metadata_connection_config(str(root / METADATA_FILE))
    return Pipeline(
        pipeline_name=graph.PIPELINE_NAME,
        pipeline_root=str(root / "artifacts"),
        components=list(nodes.values()),
        enable_cache=True,
        metadata_connection_config=connection,
        beam_pipeline_args=list(args.beam_args),
    )


def _source(table: Path, config: Config, labeled: bool):
    """Returns a table; one without labels has the columns of the settings."""
    from mmkeras.data.ingest_plan import plan_ingest
    from mmkeras.data.table import warn_absent
    from mmkeras.schema import TEST
    from pipeline.fingerprint import files_hash
    from pipeline.graph import DataSource

    plan = plan_ingest(table, config, only=None if labeled else TEST, labeled=labeled)
    if not labeled:
        present = [row.present for shard in plan.shards for row in shard.rows]
        print_warnings(warn_absent(plan.columns, set().union(*present)))
    return DataSource(
        table=data_name(table),
        fingerprint=plan.fingerprint,
        files=files_hash(config.files),
    )


if __name__ == "__main__":
    run_program(main)
