"""What a reader must know of the trainings of a table, to print below it."""

from experiments.tables.results import Results
from experiments.tables.table import Table
from lightning_modules.checks import late_start


def notes(table: Table, results: Results) -> list[str]:
    """Return a sentence for each finished cell whose regularizer starts after its last step."""
    found = []
    for row, column in table.cells(results.dataset):
        run = results.first(table.specs[row, column].name)
        if run is None or not run.has_config:
            continue
        model, steps = run.config["model"], run.config["trainer"]["max_steps"]
        if model.get("regularizer") and (late := late_start(model["regularizer_start_step"], steps)):
            found.append(f"{row}/{column}: {late}")
    return found
