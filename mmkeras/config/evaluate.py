"""Settings of what is done with a trained model: measured, exported."""

from dataclasses import dataclass

from mmkeras.config.validation import check


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What the report computes.

    Attributes:
        bootstrap_resamples: Resamples behind each 95 % interval.
        worst_errors: Wrong rows shown in the report, the surest first.
        calibration_bins: Bins of the reliability diagram and of the expected
            calibration error.
        noise_rows: Rows behind the curves of accuracy under noise; 0 leaves them out.
        trained_alone: Whether a model of its own is trained on each modality alone,
            as a baseline; takes as long again for each.
    """

    bootstrap_resamples: int = 500
    worst_errors: int = 12
    calibration_bins: int = 10
    noise_rows: int = 500
    trained_alone: bool = False

    def __post_init__(self):
        for name, least in (
            ("noise_rows", 0),
            ("bootstrap_resamples", 10),
            ("worst_errors", 0),
            ("calibration_bins", 2),
        ):
            value = getattr(self, name)
            check(value >= least, f"evaluate.{name}", value, f"at least {least}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The served model.

    Attributes:
        tolerance: Largest difference of a probability between the training model
            and the reloaded export.
    """

    tolerance: float = 1e-5

    def __post_init__(self):
        check(self.tolerance > 0, "export.tolerance", self.tolerance, "above 0")
