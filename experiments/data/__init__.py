"""Dataset tools."""
