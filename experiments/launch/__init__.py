"""Starting runs on this machine or on a SLURM cluster."""
