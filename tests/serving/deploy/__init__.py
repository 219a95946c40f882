"""Tests of what deploys TensorFlow Serving."""
