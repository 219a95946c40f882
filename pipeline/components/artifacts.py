"""Artifact types of the pipeline in addition to TFX's, and the names of their files.

On Kubeflow, TFX looks a type up by its name, as a class in a module without dots;
therefore the package `pipeline` exports these classes.
"""

from tfx.types.artifact import Artifact

STATISTICS_FILE, PAGE_FILE = "media_statistics.json", "media_statistics.html"


class RejectedRows(Artifact):
    """Rows that were left out and the reasons: rejected.csv."""

    TYPE_NAME = "pipeline.RejectedRows"


class MediaStatistics(Artifact):
    """Statistics of texts, images and audio: JSON and an HTML page."""

    TYPE_NAME = "pipeline.MediaStatistics"


class DataBlessing(Artifact):
    """Proof that the rows passed the data checks; training waits for it."""

    TYPE_NAME = "pipeline.DataBlessing"
