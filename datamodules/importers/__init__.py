"""Labels drawn in labeling tools."""
