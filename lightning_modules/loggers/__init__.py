"""CSV and W&B loggers."""
