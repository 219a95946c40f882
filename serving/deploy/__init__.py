"""What deploys TensorFlow Serving with the pushed models, and releases versions."""
