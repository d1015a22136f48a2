"""Engines that compute S = W y: one file each, the same values."""
