"""Inputs of the compiler, with the hashes of the tables and files that are readable."""

import sys
from dataclasses import dataclass, replace

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.ingest_plan import plan_ingest
from mmkeras.data.table import check_columns
from mmkeras.errors import UserError, one_line
from mmkeras.files import is_remote, join_path, read_remote
from mmkeras.schema import TEST
from pipeline.compiler.compile_args import NO_BASELINE, CompileArgs
from pipeline.components.pusher import newest_version
from pipeline.components.schema_gen import edited_hash
from pipeline.fingerprint import files_hash
from pipeline.graph import UNLABELED, DataSource, OutputPaths
from pipeline.runtime import s3
from pipeline.settings import PipelineConfig


@dataclass(frozen=True, kw_only=True)
class CompileRequest:
    """Inputs of the compiler; the same request compiles to the same pipeline.

    Attributes:
        source: Table to train on.
        unlabeled: Table to predict with the pushed model.
        baseline: URI of the last blessed model, if any.
        uncached: Components that run each time, because their input cannot be read
            here and may have changed.
    """

    source: DataSource
    unlabeled: DataSource | None
    paths: OutputPaths
    baseline: str | None
    pipeline_root: str
    image: str
    uncached: frozenset[str]
    config: PipelineConfig


def make_compile_request(args: CompileArgs) -> CompileRequest:
    """Reads the tables, the schema and the pushed versions as far as possible.

    Raises:
        UserError: A table can be read, but cannot be used.
    """
    if any(uri and uri.startswith(s3.SCHEME) for uri in args.uris):
        s3.register()
    config, uncached = args.config, set()
    newest = _newest_version(args.serving_dir)
    source, trained = _source(args.data, config.plain, True, uncached)
    source = replace(source, files=_files(config, uncached))
    unlabeled = None
    if args.unlabeled:
        unlabeled, _ = _source(args.unlabeled, trained, False, uncached)
    return CompileRequest(
        source=source,
        unlabeled=unlabeled,
        paths=OutputPaths(
            schema_file=args.schema_file,
            edited=_edited(args.schema_file, source.fingerprint, uncached),
            serving_dir=args.serving_dir,
            newest_version=newest,
        ),
        baseline=_baseline(args, newest),
        pipeline_root=args.pipeline_root,
        image=args.image,
        uncached=frozenset(uncached),
        config=config,
    )


def _source(
    table: str, config: Config | None, labeled: bool, uncached: set[str]
) -> tuple[DataSource, Config | None]:
    """Returns a table with its fingerprint, and the settings with its columns.

    The fingerprint is "" if only the cluster can read it, and there are no settings.
    A table without labels has the columns of `config`; None if they are not known.
    """
    component = "ExampleGen" if labeled else UNLABELED
    if is_remote(table):
        try:
            read_remote(table)
        except FileNotFoundError:
            raise UserError(f"There is no table '{table}'. Check the URI.") from None
        except OSError as error:
            uncached.add(component)
            _note(f"{component} runs each time", table, error)
            return DataSource(table=table, fingerprint=""), None
    if config is None:
        uncached.add(component)
        return DataSource(table=table, fingerprint=""), None
    if not labeled:
        check_columns(table, list(config.columns))
    only = None if labeled else TEST
    plan = plan_ingest(table, config, only=only, labeled=labeled)
    return DataSource(table=table, fingerprint=plan.fingerprint), plan.config


def _files(config: PipelineConfig, uncached: set[str]) -> str:
    """Returns the hash of remote files in settings, "" if only the cluster reads them.

    Local files are in the image, whose name is part of Kubeflow's cache key.
    """
    uris = {name: uri for name, uri in config.files.items() if is_remote(uri)}
    try:
        return files_hash(uris)
    except OSError as error:
        uncached.update(("Tuner", "Trainer"))
        _note("Trainer runs each time", error.filename, error)
        return ""


def _edited(schema_file: str, rows: str, uncached: set[str]) -> str:
    try:
        return edited_hash(schema_file, rows)
    except (tf.errors.OpError, OSError) as error:
        uncached.add("SchemaGen")
        _note("SchemaGen runs each time", schema_file, error)
        return ""


def _newest_version(serving_dir: str) -> str:
    """Returns the latest pushed version, or "" if there is none or it is unreadable."""
    try:
        return newest_version(serving_dir)
    except (tf.errors.OpError, OSError) as error:
        _note("there is no baseline: name one by --baseline", serving_dir, error)
        return ""


def _baseline(args: CompileArgs, newest: str) -> str | None:
    if args.baseline:
        return None if args.baseline == NO_BASELINE else args.baseline
    return join_path(args.serving_dir, newest) if newest else None


def _note(consequence: str, path: str, error: Exception) -> None:
    is_tensorflow = isinstance(error, tf.errors.OpError)
    reason = error.message if is_tensorflow else error.strerror or error
    reason = one_line(reason).rstrip(".")
    text = f"note: {consequence}, as '{path}' cannot be read from here ({reason})."
    print(text, file=sys.stderr)
