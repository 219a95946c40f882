"""An embedded twin of TensorFlow Serving, for one machine and for tests."""
