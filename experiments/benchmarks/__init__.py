"""Benchmarks of the loss, the data and a training step."""
