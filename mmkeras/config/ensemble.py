"""Settings of an ensemble of several models."""

from dataclasses import dataclass

from mmkeras.config.validation import check


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Several models whose predictions are averaged; without any setting there is one.

    Attributes:
        presets: Presets of the members, with commas between. A setting that is changed
            reaches those members whose preset has the same value as that of the run, of
            which an ensemble's preset has the values of its first member.
        folds: Number of parts of the train and val rows. Each preset is trained so many
            times, each time with another part to validate; 0 is once, with the val
            rows.
    """

    presets: str = ""
    folds: int = 0

    def __post_init__(self):
        is_allowed = self.folds == 0 or self.folds >= 2
        check(is_allowed, "ensemble.folds", self.folds, "0, or at least 2")

    @property
    def is_active(self) -> bool:
        """Whether there are several models."""
        return bool(self.presets.strip() or self.folds)
