"""Everything that a GPU decides, in one command."""
