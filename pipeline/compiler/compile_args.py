"""Parsed and checked arguments of `python -m pipeline.kubeflow`."""

from dataclasses import dataclass
from pathlib import Path

from mmkeras.files import join_path
from pipeline.settings import PipelineConfig

NO_BASELINE = "none"


@dataclass(frozen=True, kw_only=True)
class CompileArgs:
    """What the command line asks for, checked.

    Attributes:
        data: The table; local or a URI, as all below.
        root: Folder of everything.
        image: Container image.
        output: File of the compiled pipeline.
        unlabeled: A table to answer with the pushed model, if any.
        schema: Schema file to hold rows against; None is the root's own.
        baseline: Last blessed model, or "none"; None is the newest pushed one.
        host: Where to submit; None is nowhere.
        experiment: That the run is listed under.
        namespace: Of the run; None is the only one.
        config: All settings.
    """

    data: str
    root: str
    image: str
    output: Path
    unlabeled: str | None
    schema: str | None
    baseline: str | None
    host: str | None
    experiment: str
    namespace: str | None
    config: PipelineConfig

    @property
    def uris(self) -> tuple[str | None, ...]:
        """All that may lie behind a URI."""
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
