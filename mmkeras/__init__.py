"""Multimodal classifiers in Keras, trained from a table and served as a SavedModel."""

__version__ = "0.2.0"
