"""All that a compiled pipeline depends on, and what of it is read before."""

import sys
from dataclasses import dataclass, replace

import tensorflow as tf
from tfx.dsl.io import fileio

from mmkeras.data.ingest_plan import plan_ingest
from mmkeras.errors import UserError
from mmkeras.files import is_remote, join_path, read_remote
from mmkeras.schema import TEST
from pipeline.compiler.compile_args import NO_BASELINE, CompileArgs
from pipeline.components.schema_gen import edited_hash
from pipeline.fingerprint import files_hash
from pipeline.graph import UNLABELED, DataSource, OutputPaths
from pipeline.runtime import s3
from pipeline.settings import PipelineConfig


@dataclass(frozen=True, kw_only=True)
class CompileRequest:
    """What is compiled; the same job gives the same pipeline.

    Attributes:
        source: The table to learn from.
        unlabeled: A table to answer with the pushed model, if any.
        places: Of the schema and the pushed versions.
        baseline: URI of the last blessed model; None where there is none.
        pipeline_root: Folder of the artifacts of all runs.
        image: Container image with this project in it.
        uncached: Components that run each time, as what they read could not be read
            here, and nobody knows whether it has changed.
        config: All settings.
    """

    source: DataSource
    unlabeled: DataSource | None
    places: OutputPaths
    baseline: str | None
    pipeline_root: str
    image: str
    uncached: frozenset[str]
    config: PipelineConfig


def make_compile_request(request: CompileArgs) -> CompileRequest:
    """Reads what it can of the tables, the schema and the pushed versions.

    Raises:
        UserError: A table can be read and cannot be used.
    """
    if any(uri and uri.startswith(s3.SCHEME) for uri in request.uris):
        s3.register()
    config, uncached = request.config, set()
    newest = _newest_version(request.serving_dir)
    source = _source(request.data, config, True, uncached)
    source = replace(source, files=_files(config, uncached))
    unlabeled = None
    if request.unlabeled:
        unlabeled = _source(request.unlabeled, config, False, uncached)
    return CompileRequest(
        source=source,
        unlabeled=unlabeled,
        places=OutputPaths(
            schema_file=request.schema_file,
            edited=_edited(request.schema_file, source.fingerprint, uncached),
            serving_dir=request.serving_dir,
            newest_version=newest,
        ),
        baseline=_baseline(request, newest),
        pipeline_root=request.pipeline_root,
        image=request.image,
        uncached=frozenset(uncached),
        config=config,
    )


def _source(
    table: str, config: PipelineConfig, labeled: bool, uncached: set[str]
) -> DataSource:
    """Reads the fingerprint of a table; it is "" where only the cluster can."""
    if is_remote(table):
        try:
            read_remote(table)
        except FileNotFoundError:
            raise UserError(f"'{table}' is not there. Check the URI.") from None
        except OSError as error:
            component = "ExampleGen" if labeled else UNLABELED
            uncached.add(component)
            _note(f"{component} runs each time", table, error.strerror)
            return DataSource(table=table, fingerprint="")
    only = None if labeled else TEST
    plan = plan_ingest(table, config.plain, only=only, labeled=labeled)
    return DataSource(table=table, fingerprint=plan.fingerprint)


def _files(config: PipelineConfig, uncached: set[str]) -> str:
    """Reads the files behind URIs that settings name; "" where only the cluster can.

    Others are in the image, whose name Kubeflow compares by itself.
    """
    named = {name: uri for name, uri in config.files.items() if is_remote(uri)}
    try:
        return files_hash(named)
    except OSError as error:
        uncached.update(("Tuner", "Trainer"))
        _note("Trainer runs each time", error.filename, error.strerror)
        return ""


def _edited(schema_file: str, rows: str, uncached: set[str]) -> str:
    try:
        return edited_hash(schema_file, rows)
    except (tf.errors.OpError, OSError) as error:
        uncached.add("SchemaGen")
        _note("SchemaGen runs each time", schema_file, _reason(error))
        return ""


def _newest_version(serving_dir: str) -> str:
    """Returns the newest pushed version; "" where none is, or can be seen from here."""
    try:
        names = fileio.listdir(serving_dir)
    except fileio.NotFoundError:
        return ""
    except (tf.errors.OpError, OSError) as error:
        consequence = "there is no baseline: name one by --baseline"
        _note(consequence, serving_dir, _reason(error))
        return ""
    versions = [n.strip("/") for n in names if n.strip("/").isdigit()]
    return max(versions, key=int, default="")


def _baseline(request: CompileArgs, newest: str) -> str | None:
    """Returns the model to hold a new one against: the newest pushed version."""
    if request.baseline:
        return None if request.baseline == NO_BASELINE else request.baseline
    return join_path(request.serving_dir, newest) if newest else None


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, tf.errors.OpError) else str(error)


def _note(consequence: str, path: str, reason: str) -> None:
    reason = " ".join(reason.split()).rstrip(".")
    text = f"note: {consequence}, as '{path}' cannot be read from here ({reason})."
    print(text, file=sys.stderr)
