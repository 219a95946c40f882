"""List of explanations that a notebook shows as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmkeras.data.example_reader import RowContent
from mmkeras.explanation.explainer import Explanation
from mmkeras.explanation.page import build_card, write_explanations
from mmkeras.modalities.column import Column
from mmkeras.reports.html import embedded_page
from mmkeras.schema import EXPLANATIONS_PAGE


class Explanations(list[Explanation]):
    """List of one `Explanation` per row."""

    def __init__(
        self,
        pairs: Sequence[tuple[RowContent, Explanation]],
        columns: Mapping[str, Column],
    ):
        super().__init__(explanation for _, explanation in pairs)
        self._cards = [build_card(*pair, columns) for pair in pairs]

    def save(self, path: str | Path) -> None:
        """Writes the page of all rows, as `python -m mmkeras.explain` does."""
        write_explanations(Path(path), "Explained predictions", self._cards)

    def _repr_html_(self) -> str:
        with TemporaryDirectory() as folder:
            path = Path(folder) / EXPLANATIONS_PAGE
            self.save(path)
            return embedded_page(path)
