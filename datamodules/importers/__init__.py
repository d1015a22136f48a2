"""Labels of annotation tools as clicks and scribbles."""
