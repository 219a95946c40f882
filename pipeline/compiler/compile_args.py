"""Parsed and checked arguments of `python -m pipeline.kubeflow`."""

from dataclasses import dataclass
from pathlib import Path

from mmkeras.files import join_path
from pipeline.settings import PipelineConfig

NO_BASELINE = "none"


@dataclass(frozen=True, kw_only=True)
class CompileArgs:
    """Checked values of the flags; all paths but `output` are local paths or URIs.

    Attributes:
        schema: Schema file to validate rows against; None is the root's own.
        baseline: Last blessed model, or "none"; None is the latest pushed version.
        host: URL to submit to; None compiles only.
    """

    data: str
    root: str
    image: str
    output: Path
    unlabeled: str | None = None
    schema: str | None = None
    baseline: str | None = None
    host: str | None = None
    experiment: str = "mmkeras"
    namespace: str | None = None
    config: PipelineConfig

    @property
    def uris(self) -> tuple[str | None, ...]:
        """All paths that may be URIs."""
        return (self.data, self.root, self.unlabeled, self.schema, self.baseline)

    @property
    def schema_file(self) -> str:
        return self.schema or join_path(self.root, "schema/schema.pbtxt")

    @property
    def serving_dir(self) -> str:
        return join_path(self.root, "serving/mmkeras")

    @property
    def pipeline_root(self) -> str:
        return join_path(self.root, "artifacts")
