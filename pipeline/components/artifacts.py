"""Artifacts of our own, beside those that TFX has.

On Kubeflow TFX finds a type again by its name, as a class in a module without dots:
`pipeline` hands these out.
"""

from tfx.types.artifact import Artifact


class RejectedRows(Artifact):
    """Rows that were left out, and why: rejected.csv."""

    TYPE_NAME = "pipeline.RejectedRows"


class MediaStatistics(Artifact):
    """What pictures, sounds and texts are like: JSON, and a page to look at."""

    TYPE_NAME = "pipeline.MediaStatistics"


class DataBlessing(Artifact):
    """That the rows have passed the checks; training waits for it."""

    TYPE_NAME = "pipeline.DataBlessing"
