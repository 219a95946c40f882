"""Inputs that mean harm, for the twin: made, sent, and their answers judged.

`python -m tests.serving.fuzzing --inputs 120000` is the long run.
"""
