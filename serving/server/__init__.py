"""Model server compatible with TensorFlow Serving, for one machine and for tests."""
