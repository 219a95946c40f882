"""Benchmarks; each prints a ratio to a baseline that it measures in the same run."""
