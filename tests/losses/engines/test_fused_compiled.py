"""The kernel for GPUs under Triton's compiler, in another process: this one may use the interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

CODE = """
import sys
from pathlib import Path
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from losses import GatedCRFLoss
from losses.engines.fused import TILE
from losses.engines.fused_kernel import filter_kernel, split_classes, split_features

try:
    GatedCRFLoss(engine="fused")(torch.full((1, 2, 4, 4), 0.5), {"rgb": torch.zeros(1, 3, 4, 4)})
except ValueError as error:
    print(error)

constants = dict(classes=21, weights=(-1.0, 0.5), spatial=(1 / 72, 0.0), precisions=(50.0, 0.0, 50.0, 2.0))
constants |= split_features((3, 1)) | dict(radius=5, sign=1, constant=1)
constants |= split_classes(21) | dict(rows=TILE.rows, lanes_x=TILE.lanes, lanes_y=1)
names = filter_kernel.arg_names
for target in sys.argv[2:]:
    capability, dtype = target.split("-")
    types = dict.fromkeys(("probs", "values", "filtered"), "*" + dtype)
    types |= dict.fromkeys(("features", "energies"), "*fp32") | dict.fromkeys(("source", "destination"), "*i1")
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in names}
    source = ASTSource(
        filter_kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"},
    )
    options = {"num_warps": TILE.lanes // 32}
    kernel = triton.compile(source, target=GPUTarget("cuda", int(capability), 32), options=options)
    for kind in ("ttgir", "ptx"):
        Path(sys.argv[1], f"{target}.{kind}").write_text(kernel.asm[kind])
    Path(sys.argv[1], f"{target}.cubin").write_bytes(kernel.asm["cubin"])
"""
TARGETS = ["80-fp32", "80-bf16", "90-fp32", "90-bf16"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Output of the process, and the folder of the compiled kernels."""
    folder = tmp_path_factory.mktemp("compiled")
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {"TRITON_INTERPRET": "0", "PYTHONPATH": paths, "TRITON_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", CODE, str(folder), *TARGETS]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_a_cpu_without_the_interpreter_is_refused(compiled: tuple[str, Path]) -> None:
    message, _ = compiled
    assert "'fused' needs a GPU and probs is on cpu" in message
    assert "engine='auto'" in message
    assert "TRITON_INTERPRET=1" in message


@pytest.mark.parametrize("target", TARGETS)
def test_compiles_for_a_gpu_without_spills_and_shuffles(target: str, compiled: tuple[str, Path]) -> None:
    """The kernel is fast because sums stay in registers and each pixel stays in its thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton is not for NVIDIA's GPUs")
    _, folder = compiled
    assert ".local" not in (folder / f"{target}.ptx").read_text()
    assert "convert_layout" not in (folder / f"{target}.ttgir").read_text()
    command = [tool, "-res-usage", folder / f"{target}.cubin"]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(re.search(r"REG:(\d+)", usage)[1]) <= 168  # three programs fit on a multiprocessor
    assert "STACK:0 " in usage
    assert "LOCAL:0 " in usage
