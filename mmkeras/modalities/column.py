"""What a modality is: the interface between a column of the table and all steps.

A column has a type (text, image, ..., numeric); `branch.py` has what its encoder needs.
The steps loop over columns and branches and know no type by name; `types.py` lists the
types.

No module that is imported here needs TensorFlow, so that clients can prepare rows
without it; graphs and encoders are imported by the methods that build them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmkeras.environment.model_hub import is_handle
from mmkeras.modalities.file import Unreadable, find_file, read_file

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

State = dict[str, Any]  # what a column learned from the training rows; JSON
# Contents of one column with a part hidden -> (V,) effects on the probability.
Effects = Callable[[Iterable[Any]], "np.ndarray"]


@dataclass(frozen=True, kw_only=True)
class Content:
    """Content of a cell that can be used.

    Attributes:
        data: Value of the tf.Example and of the served input.
        digest: Bytes whose hash finds duplicates; the file as it is on disk.
        metadata: Suffix of a feature -> property, such as "width_px".
        notes: Faults of a file that is read whole nevertheless.
        formats: Formats that occur, which the graph must decode.
        warning: Kind of the warning that lists this row, of `Column.warnings`, or "".
    """

    data: bytes | float
    digest: bytes
    metadata: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    warning: str = ""


@dataclass(frozen=True)
class FileReader:
    """Reader of the files that cells name, relative to the folder of the table."""

    folder: str | Path
    max_file_mb: int = 64

    def read(self, cell: str | bytes) -> bytes:
        """Returns the content of a file, or the cell if it is the content itself.

        Raises:
            Unreadable: The file is missing, empty or too large.
        """
        if not isinstance(cell, bytes):
            return read_file(find_file(self.folder, cell), self.max_file_mb)
        if not cell:
            raise Unreadable("file is empty")
        return cell

    def find(self, cell: str) -> str:
        """Returns the path of the file that a cell names."""
        return find_file(self.folder, cell)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Statistic: the number of training rows that contain each token.

    `tokens` is a graph function from (B,) values to (B, L) ragged strings. `min_rows`
    leaves out rarer tokens.
    """

    tokens: "Callable[[tf.Tensor], tf.RaggedTensor]"
    min_rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Statistic: mean and deviation of each number over the training rows.

    `vector` is a graph function from one () value to (D,), or to (T, D) frames.
    """

    vector: "Callable[[tf.Tensor], tf.Tensor]"
    width: int
    is_sequence: bool = False


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Statistic: `count` quantiles of each number over the training rows.

    `vector` is a graph function from one () value to (D,); NaN is left out.
    """

    vector: "Callable[[tf.Tensor], tf.Tensor]"
    width: int
    count: int


class Column(ABC):
    """A named, typed column of the table.

    Attributes:
        type: Name of the type in settings, such as "text".
        takes_strings: Whether the served input is a string, "" if absent; otherwise it
            is float32, NaN if absent.
        has_files: Whether cells name files.
    """

    type: str
    takes_strings: ClassVar[bool] = True
    has_files: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = ()  # of its files, such as ".png"
    # Types of a lower rank are the first to recognise a column.
    rank: ClassVar[int] = 0
    has_encoder_of_vectors: ClassVar[bool] = False  # its settings have such an encoder
    section: ClassVar[str] = ""  # of the settings; "" is that of the type
    # Settings that the records depend on, and those that only the encoder depends on.
    read_settings: ClassVar[tuple[str, ...]] = ()
    encoder_settings: ClassVar[tuple[str, ...]] = ()
    # Of the features of the linear model, where the encoder has one vector per row.
    feature_settings: ClassVar[tuple[str, ...]] = ()
    # Kind of a warning, such as "is silent" -> the same of several cells.
    warnings: ClassVar[Mapping[str, str]] = {}
    # Whether equal content in two splits is a duplicate, even if other columns differ.
    identifies_row: ClassVar[bool] = False
    # What the statistics of the data show of `Content.metadata`: suffix -> title and
    # unit of a number with a distribution, and of one whose values are counted.
    measured: ClassVar[Mapping[str, tuple[str, str]]] = {}
    counted: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # Suffix -> word for content with this value or more, and the value.
    faults: ClassVar[Mapping[str, tuple[str, float]]] = {}
    measured_note: ClassVar[str] = ""

    def __init__(self, name: str, settings: Any):
        self.name, self.settings = name, settings

    @property
    def absent(self) -> bytes | float:
        """Value of the served input of a row without the column."""
        return b"" if self.takes_strings else float("nan")

    def is_absent(self, data: Any) -> bool:
        """Whether a value is that of a row without the column."""
        return data != data if isinstance(data, float) else not data

    def read_key(self) -> Any:
        """Returns the settings that `read` depends on, ready for JSON."""
        return [self.type]

    def fit_key(self) -> Any:
        """Returns the settings that `fit` depends on, ready for JSON."""
        return [self.type, asdict(self.settings)]

    @classmethod
    @abstractmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        """Returns why a column of present cells looks like this type, or ""."""

    @abstractmethod
    def read(self, cell: Any, files: FileReader) -> Content:
        """Reads a present cell.

        Raises:
            Unreadable: The cell cannot be used; the message is the reason.
        """

    def prepare(self, content: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Returns what a client sends for the content of a file, and its faults."""
        return content, ()

    def join(self, parts: Sequence[bytes]) -> bytes:
        """Returns the value of a cell with several files or texts from that of each.

        Raises:
            Unreadable: A cell of this type has one.
        """
        raise Unreadable(f"a list, where a {self.type} has one value")

    @abstractmethod
    def statistics(self) -> Counts | Moments | Quantiles | None:
        """Returns what the training rows must be asked for."""

    @abstractmethod
    def fit(self, result: Any) -> State:
        """Returns the state from the result of the statistic.

        The result is (counts, rows) with counts token -> rows for `Counts`; (mean,
        deviation), each (D,), for `Moments`; and quantiles (count, D) for `Quantiles`.
        It is None without a statistic, and for the latter two if no training row has
        the column.
        """

    def warn_unused(self, state: State) -> str:
        """Returns a warning if the state lets all rows look alike, else ""."""
        return ""

    @property
    def handle(self) -> str:
        """Handle of the model of a hub that the encoder needs, or ""."""
        weights = getattr(getattr(self, "settings", None), "weights", "")
        return weights if is_handle(weights) else ""

    def fetch(self) -> None:
        """Fetches what the encoder needs, before the rows are read.

        Raises:
            UserError: It is neither in its cache nor can be fetched.
        """
        return None

    # Reports and explanations.

    noise_levels: ClassVar[tuple[float | None, ...]] = ()
    # Of the chart: heading, unit of a level, and factor of a level to that unit.
    noise_heading: ClassVar[str] = ""
    noise_unit: ClassVar[str] = ""
    noise_factor: ClassVar[float] = 1

    def corrupt(self, data: Any, level: float, seed: Sequence[int]) -> Any:
        """Returns data with noise of a level of `noise_levels`, of which the first is
        the unchanged data. Without levels a column has no curve of noise.

        Raises:
            Unreadable: The data cannot be decoded, which is so for the model, too.
        """
        raise NotImplementedError

    def explain(self, data: Any, effects: Effects) -> dict[str, Any] | None:
        """Returns the effects of the parts of a present value, ready for JSON.

        `effects` is a function from contents with a part hidden to (V,) effects: by
        how much the probability falls. None if the value has no parts.
        """
        return None

    def draw(self, data: Any, explained: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of the page for a result of `explain`, with a "kind"."""
        raise NotImplementedError

    def draw_places(
        self, data: Any, weights: "np.ndarray", scale: float
    ) -> bytes | None:
        """Draws weights of an encoder's tokens over a present value, as a small PNG.

        `weights` is (K,), not negative; one of `scale` has the full colour. None if the
        tokens are not places of the value.
        """
        return None

    def preview(self, data: Any) -> dict[str, Any]:
        """Returns values for reports: "kind" (text, image, audio) and "content"."""
        return {"kind": "text", "content": ""}
