"""Datasets, weak labels and augmentation: files in, a Sample out."""
