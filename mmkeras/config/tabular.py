"""Settings of the branch of numbers, categories and dates."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TabularConfig:
    """Branch of numbers, categories and dates."""
