"""Fuzzer of the TF Serving-compatible server: inputs, transports and an oracle.

`python -m tests.serving.fuzzing --inputs 120000` is the long run.
"""
