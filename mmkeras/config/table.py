"""Settings of the table: columns, splits, ingest."""

from dataclasses import dataclass

from mmkeras.config.validation import check, check_range
from mmkeras.names import clean_name
from mmkeras.schema import MODALITIES


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Columns of the table, and its division into splits.

    Attributes:
        text_column: Header of the text column.
        image_column: Header of the column of image paths.
        audio_column: Header of the column of audio paths.
        label_column: Header of the label column; or those of several columns of 0 and
            1, one per class, with commas between.
        id_column: Header of the row identifier; optional in the table.
        split_column: Header of the train/val/test column; optional in the table.
        group_column: Header of the group column; a group is in one split only.
        join_labels: Whether labels that differ in case, in Unicode form, in the form of
            a number (1 and 1.0) or in the word for nothing (nan and None) are one
            class.
        modalities: Modalities to use, if the table has them: any of text, image and
            audio, with commas between.
        val_share: Fraction of rows for validation if the table has no splits.
        test_share: Fraction of rows for the test if the table has no splits.
        folds: Number of folds for cross-validation, whatever the split column; 0 is
            none. `--folds` trains all.
        fold: Number of the test fold, from 1; val_share of the others is val.
        max_file_mb: Largest media file, in megabytes.
        rows_per_shard: Rows per TFRecord file.
        workers: Threads that read and check rows; 0 is one per core.
        cache_dir: Folder of ingested tables; empty is ~/.cache/mmkeras.
    """

    text_column: str = "text"
    image_column: str = "image"
    audio_column: str = "audio"
    label_column: str = "label"
    id_column: str = "id"
    split_column: str = "split"
    group_column: str = "group"
    join_labels: bool = False
    modalities: str = "text,image,audio"
    val_share: float = 0.15
    test_share: float = 0.15
    folds: int = 0
    fold: int = 0
    max_file_mb: int = 64
    rows_per_shard: int = 1024
    workers: int = 0
    cache_dir: str = ""

    def __post_init__(self):
        fraction = self.val_share + self.test_share
        check_range(self, "table.val_share", "table.test_share", gt=0)
        names = "table.val_share + table.test_share"
        check(fraction < 1, names, f"{fraction:g}", "below 1")
        allowed = "0 (no cross-validation) or at least 2"
        check(self.folds == 0 or self.folds >= 2, "table.folds", self.folds, allowed)
        if self.folds:
            check_range(self, "table.fold", ge=1, le="table.folds")
        else:
            check(self.fold == 0, "table.fold", self.fold, "0 without table.folds")
        check_range(self, "table.max_file_mb", "table.rows_per_shard", ge=1)
        check_range(self, "table.workers", ge=0)
        names = self.modality_names
        check(
            set(names) <= set(MODALITIES) and 0 < len(set(names)) == len(names),
            "table.modalities",
            self.modalities,
            "any of text, image and audio, each once, with commas between",
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Headers of the label columns, as a table's header is cleaned."""
        names = map(clean_name, self.label_column.split(","))
        return tuple(name for name in names if name)

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(n.strip() for n in self.modalities.split(",") if n.strip())
