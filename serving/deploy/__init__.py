"""Deployment files of TensorFlow Serving, and releases of model versions."""
