"""The kernel for GPUs as Triton's compiler takes it, in a Python of its own: this one may have the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton comes with torch on Linux only")


def run(code: str, *arguments: object, **environment: str) -> str:
    """Return what a Python with Triton's compiler prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": paths, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cpu_without_the_interpreter_is_refused() -> None:
    code = """
import torch
from losses import GatedCRFLoss
try:
    GatedCRFLoss(engine="fused")(torch.full((1, 2, 4, 4), 0.5), {"rgb": torch.zeros(1, 3, 4, 4)})
except ValueError as error:
    print(error)
"""
    message = run(code)
    assert "'fused' needs a GPU and probs is on cpu" in message
    assert "engine='auto'" in message
    assert "TRITON_INTERPRET=1" in message


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from losses.engines.fused import LANES, ROWS, _filter_kernel

capability, dtype, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
constants = dict(classes=21, weights=(-1.0, 0.5), spatial=(1 / 72, 0.0), precisions=(50.0, 0.0, 50.0, 2.0))
constants |= dict(starts=(0, 3, 4), radius=5, sign=1, constant=1)
constants |= dict(block_size=32, rows=ROWS, lanes_x=LANES, lanes_y=1)
types = dict.fromkeys(("probs", "values", "filtered"), "*" + dtype) | dict.fromkeys(("features", "energies"), "*fp32")
types |= dict.fromkeys(("source", "destination"), "*i1") | dict.fromkeys(constants, "constexpr")
names = _filter_kernel.arg_names
signature = {name: types.get(name, "i32") for name in names}
aligned = [i for i, name in enumerate(names) if signature[name][0] == "*"]
source = ASTSource(
    _filter_kernel,
    signature,
    {(names.index(name),): value for name, value in constants.items()},
    {(i,): [["tt.divisibility", 16]] for i in aligned},
)
kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": LANES // 32})
for name in ("ttgir", "ptx"):
    open(f"{folder}/{name}", "w").write(kernel.asm[name])
open(f"{folder}/cubin", "wb").write(kernel.asm["cubin"])
"""


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_for_a_gpu_without_spills_and_shuffles(capability: int, dtype: str, tmp_path: Path) -> None:
    """What makes it fast: the sums stay in registers, and a pixel in its thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton is not for NVIDIA's GPUs")
    run(COMPILE, capability, dtype, tmp_path, TRITON_CACHE_DIR=str(tmp_path / "cache"))
    assert ".local" not in (tmp_path / "ptx").read_text()
    assert "convert_layout" not in (tmp_path / "ttgir").read_text()
    usage = subprocess.run([tool, "-res-usage", tmp_path / "cubin"], capture_output=True, text=True, check=True).stdout
    assert "STACK:0 " in usage
    assert "LOCAL:0 " in usage
