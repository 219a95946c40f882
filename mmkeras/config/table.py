"""Settings of the table."""

from dataclasses import dataclass

from mmkeras.config.validation import check


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """The table: its columns, and how rows are divided.

    Attributes:
        text_column: Header of the text column.
        image_column: Header of the column of picture paths.
        audio_column: Header of the column of sound paths.
        label_column: Header of the label column.
        id_column: Header of the row identifier; optional in the table.
        split_column: Header of the train/val/test column; optional in the table.
        group_column: Header of the group column; no group straddles a split.
        modalities: Which to use, of those that the table has: any of text, image
            and audio, with commas between.
        val_share: Part of the rows for validation where the table has none.
        test_share: Part of the rows for the test where the table has none.
        folds: For cross-validation, parts that the rows are divided into, whatever
            their split column says; 0 is none. `--folds` trains all.
        fold: Which of them, from 1, is the test; of the others val_share is val.
        max_file_mb: Largest media file that is read, in megabytes.
        rows_per_shard: Rows in one TFRecord file.
        workers: Threads that read and check rows; 0 is one a core.
        cache_dir: Folder of ingested tables; empty is ~/.cache/mmkeras.
    """

    text_column: str = "text"
    image_column: str = "image"
    audio_column: str = "audio"
    label_column: str = "label"
    id_column: str = "id"
    split_column: str = "split"
    group_column: str = "group"
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
        shares = self.val_share + self.test_share
        check(self.val_share > 0, "table.val_share", self.val_share, "above 0")
        check(self.test_share > 0, "table.test_share", self.test_share, "above 0")
        check(
            shares < 1, "table.val_share + table.test_share", f"{shares:g}", "below 1"
        )
        self._check_folds()
        check(
            self.max_file_mb >= 1, "table.max_file_mb", self.max_file_mb, "at least 1"
        )
        check(
            self.rows_per_shard >= 1,
            "table.rows_per_shard",
            self.rows_per_shard,
            "at least 1",
        )
        check(self.workers >= 0, "table.workers", self.workers, "0 or more")
        names = self.modality_names
        known = {"text", "image", "audio"}
        check(
            bool(names) and set(names) <= known and len(set(names)) == len(names),
            "table.modalities",
            self.modalities,
            "any of text, image and audio, each once, with commas between",
        )

    def _check_folds(self):
        check(
            self.folds == 0 or self.folds >= 2,
            "table.folds",
            self.folds,
            "0 (no cross-validation) or at least 2",
        )
        allowed = f"from 1 to table.folds={self.folds}" if self.folds else "0"
        least = min(1, self.folds)
        check(least <= self.fold <= self.folds, "table.fold", self.fold, allowed)

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(n.strip() for n in self.modalities.split(",") if n.strip())
