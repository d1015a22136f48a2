"""Configurations, tables and the command line."""

from pathlib import Path

EXPERIMENTS = Path(__file__).parent
"""The folder of the shipped YAML files."""

DATASETS = sorted(path.stem for path in (EXPERIMENTS / "datasets").glob("*.yaml"))
"""Names of the shipped datasets."""

RESULT = "result.json"
"""File in the directory of a run, written after its last step."""
