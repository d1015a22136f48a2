"""Exact resume, crash-safe checkpoints, and stopping between two steps."""
