"""Bytes to tensors: TF graph functions that training and serving share."""
