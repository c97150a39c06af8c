"""Tensors in, tensors out: encoders, poolings, transforms and the classifier."""
