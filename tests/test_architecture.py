"""The import table of CONTRIBUTING.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("losses", "datamodules", "lightning_modules", "experiments")
ALLOWED = {
    "losses": ["losses", "torch", "triton"],
    "datamodules": [
        "datamodules",
        "torch",
        "pytorch_lightning",
        "numpy",
        "cv2",
        "PIL",
        "pycocotools",
        "scipy",
        "skimage",
        "maxflow",
        "rich",
    ],
    "lightning_modules": [
        *("lightning_modules", "datamodules.sample", "datamodules.io.errors", "datamodules.io.atomic", "torch"),
        *("datamodules.io.images", "datamodules.reduction", "losses.global_batch", "jsonargparse"),
        *("pytorch_lightning", "lightning_fabric", "torchmetrics", "timm", "huggingface_hub", "wandb", "numpy", "PIL"),
        *("matplotlib", "rich"),
    ],
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            names = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            assert parts[0] in sys.stdlib_module_names or names & set(ALLOWED[package]), f"{path} imports {module}"


def test_the_installed_packages_are_these(tmp_path: Path) -> None:
    """Their names are common words: another distribution could shadow them."""
    code = "\n".join(f"import {package}; print({package}.__file__)" for package in PACKAGES)
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [Path(line).parents[1] for line in run.stdout.split()] == [ROOT] * len(PACKAGES)
