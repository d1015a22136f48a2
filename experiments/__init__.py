"""What is run: configurations, tables, and the command line."""

from pathlib import Path

EXPERIMENTS = Path(__file__).parent
"""The folder of the shipped YAML files."""

RESULT = "result.json"
"""Written into the directory of a run that has made all its steps, and only then."""
