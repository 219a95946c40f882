"""Settings of the dense layer of precomputed vectors and of frozen encoders."""

from dataclasses import dataclass

from mmkeras.config.validation import check_range


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """Dense layer of a column of precomputed vectors, and after each frozen encoder.

    Attributes:
        dropout: Dropout rate of the vector.
        units: Width of the dense layer (0: no layer).
    """

    dropout: float = 0.2
    units: int = 256

    def __post_init__(self):
        check_range(self, "vector.dropout", ge=0, lt=1)
        check_range(self, "vector.units", ge=0)
