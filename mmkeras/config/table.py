"""Settings of the table: columns, splits, ingest."""

from dataclasses import dataclass

from mmkeras.config.validation import check, check_range
from mmkeras.errors import UserError
from mmkeras.names import clean_name

# Types that have a flag of their own; others are declared by the setting `columns`.
TYPES = ("text", "image", "audio", "vector", "numeric", "category", "date")
# Earlier names of settings.
ALIASES = {f"{name}_column": name for name in ("text", "image", "audio", "label")}


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Columns of the table, and its division into splits.

    Columns of several names have commas between. What is not declared is found: columns
    named text, image and audio, and if no column is declared, others by their content.

    Attributes:
        text: Columns of text.
        image: Columns of image paths.
        audio: Columns of audio paths.
        vector: Columns of paths of .npy vectors, or of lists of numbers.
        numeric: Columns of numbers.
        category: Columns of categories.
        date: Columns of dates and times.
        ignore: Columns that are not used, whatever they hold.
        label: Label column; or several columns of 0 and 1, one per class.
        id_column: Header of the row identifier; optional in the table.
        split_column: Header of the train/val/test column; optional in the table.
        group_column: Header of the group column; a group is in one split only.
        join_labels: Whether labels that differ in case, in Unicode form, in the form of
            a number (1 and 1.0) or in the word for nothing (nan and None) are one
            class.
        modalities: Types or columns to use, with commas between; empty is all.
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

    text: str = ""
    image: str = ""
    audio: str = ""
    vector: str = ""
    numeric: str = ""
    category: str = ""
    date: str = ""
    ignore: str = ""
    label: str = "label"
    id_column: str = "id"
    split_column: str = "split"
    group_column: str = "group"
    join_labels: bool = False
    modalities: str = ""
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
        names = [name for t in TYPES for name in split_names(getattr(self, t))]
        for name in sorted({name for name in names if names.count(name) > 1}):
            types = [t for t in TYPES if name in split_names(getattr(self, t))]
            which = " and ".join(f"table.{t}" for t in dict.fromkeys(types))
            raise UserError(
                f"{which} name the column '{name}' twice. A column has one type."
            )
        names = self.modality_names
        allowed = "types or columns, each once, with commas between"
        is_allowed = len(set(names)) == len(names) and (names or not self.modalities)
        check(is_allowed, "table.modalities", self.modalities, allowed)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Headers of the label columns, as a table's header is cleaned."""
        names = map(clean_name, self.label.split(","))
        return tuple(name for name in names if name)

    @property
    def modality_names(self) -> tuple[str, ...]:
        return split_names(self.modalities)

    @property
    def ignored(self) -> tuple[str, ...]:
        return split_names(self.ignore)

    @property
    def declared(self) -> dict[str, str]:
        """Column -> type of those that are declared here."""
        return {name: t for t in TYPES for name in split_names(getattr(self, t))}


def split_names(names: str) -> tuple[str, ...]:
    """Returns the names of a setting with commas between."""
    return tuple(n.strip() for n in names.split(",") if n.strip())
