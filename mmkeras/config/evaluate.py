"""Settings of evaluation and export."""

from dataclasses import dataclass

from mmkeras.config.validation import check_range


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Metrics and report.

    Attributes:
        bootstrap_resamples: Resamples for each 95 % interval.
        worst_errors: Wrong rows shown in the report, highest score first.
        calibration_bins: Bins of the reliability diagram and of the expected
            calibration error.
        noise_rows: Rows used to measure accuracy under noise; 0 skips it.
        trained_alone: Whether to train a baseline on each modality alone; each takes
            about as long as the model.
    """

    bootstrap_resamples: int = 500
    worst_errors: int = 12
    calibration_bins: int = 10
    noise_rows: int = 500
    trained_alone: bool = False

    def __post_init__(self):
        check_range(self, "evaluate.bootstrap_resamples", ge=10)
        check_range(self, "evaluate.calibration_bins", ge=2)
        check_range(self, "evaluate.worst_errors", "evaluate.noise_rows", ge=0)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Served model.

    Attributes:
        tolerance: Largest difference of a probability between the trained model and
            the reloaded export.
        n_best: Number of texts per row in the output `n_best` of a generator, at most
            `generate.beams`; 0 leaves it out.
    """

    tolerance: float = 1e-5
    n_best: int = 0

    def __post_init__(self):
        check_range(self, "export.tolerance", gt=0)
        check_range(self, "export.n_best", ge=0, le=100)
