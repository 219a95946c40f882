"""Multimodal classifiers in Keras, from a table to one SavedModel."""

__version__ = "0.2.0"
