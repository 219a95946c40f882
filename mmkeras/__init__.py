"""Multimodal classifiers in Keras, from a table to one SavedModel."""
