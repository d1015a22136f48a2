"""One process with eight samples and two with four each give the same loss and gradient.

Run as a script, this file is the second process.
"""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from losses import (
    DenseCRFLoss,
    GatedCRFLoss,
    GaussianKernel,
    NormalizedCutLoss,
    PartialCrossEntropyLoss,
    WhatsThePointLoss,
)

KERNELS = [GaussianKernel({"rgb": 1.0, "xy": 3.0})]
LOSSES = {
    "uniform": PartialCrossEntropyLoss(),
    "weighted": PartialCrossEntropyLoss([0.5, 2.0, 0.0]),
    "batch": PartialCrossEntropyLoss("batch"),
    "gated_crf": GatedCRFLoss(KERNELS, radius=2),
    "dense_crf": DenseCRFLoss(KERNELS[0]),
    "kernel_cut": NormalizedCutLoss(KERNELS[0], crf_weight=1),
    "by_source": GatedCRFLoss(KERNELS, radius=2, authors_denominator=True),
    "whats_the_point": WhatsThePointLoss(rank_decay=0.5),
}
ALL_PAIRS = ("dense_crf", "kernel_cut")
GATES = {"gated_crf": (True, True), "by_source": (True, False)} | dict.fromkeys(ALL_PAIRS, (True, False))
SHARES = {"unequal": slice(0, 8), "one without a label": slice(0, 4), "none with a label": slice(0, 0)}
CASES = [f"{loss}/{share}" for loss in LOSSES for share in SHARES]
Results = dict[str, tuple[Tensor, Tensor]]


def loss_and_gradient(case: str, samples: slice, parallel: bool) -> tuple[Tensor, Tensor]:
    """Return the loss of a convolution on these samples of the batch, and the gradient of its weights."""
    name, share = case.split("/")
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(8, 3, 7, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(30, (8, 7, 6), generator=generator)
    labels[:4] %= 9  # more labels in the first half
    target = torch.full_like(labels, 255)
    target[SHARES[share]] = torch.where(labels < 3, labels, 255)[SHARES[share]]
    valid = torch.rand(8, 7, 6, generator=generator) < 0.7
    torch.manual_seed(1)
    network: nn.Module = nn.Conv2d(3, 3, 3, padding=1, dtype=image.dtype)
    model = DistributedDataParallel(network) if parallel else network
    image, target, valid = image[samples], target[samples], valid[samples]
    logits = model(image)
    if name in GATES:
        gates = [gate if shut else None for gate, shut in zip((valid, target == 255), GATES[name], strict=True)]
        loss = LOSSES[name](logits.softmax(1), {"rgb": image}, *gates)
    elif name == "whats_the_point":
        tags, ranks = labels[samples].flatten(1)[:, :3] % 2 == 0, (labels[samples] % 4).to(torch.uint8)
        loss = LOSSES[name](logits, target, valid, tags, image[:, 0].sigmoid(), ranks)
    else:
        loss = LOSSES[name](logits, target)
    loss.backward()
    return loss.detach(), network.weight.grad


def run_process(rank: int, folder: Path) -> Results:
    store, timeout = dist.FileStore(str(folder / "store"), 2), timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timeout)
    results = {case: loss_and_gradient(case, slice(4 * rank, 4 * rank + 4), parallel=True) for case in CASES}
    dist.destroy_process_group()
    return results


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Return the results of two processes: this one and another."""
    folder = tmp_path_factory.mktemp("processes")
    with subprocess.Popen([sys.executable, __file__, str(folder)]) as other:
        first = run_process(0, folder)
    assert other.returncode == 0
    return [first, torch.load(folder / "1.pt")]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_loss_and_the_gradient_of_one(case: str, shared: list[Results]) -> None:
    loss, gradient = loss_and_gradient(case, slice(0, 8), parallel=False)
    losses, gradients = zip(*(results[case] for results in shared), strict=True)
    torch.testing.assert_close(sum(losses) / 2, loss, rtol=0, atol=1e-12)
    for averaged in gradients:
        torch.testing.assert_close(averaged, gradient, rtol=0, atol=1e-12)
    silent = "none with a label" in case and case.split("/")[0] not in (*GATES, "whats_the_point")
    assert (loss == 0) == silent
    assert gradient.any() != silent


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0]])
def test_partial_cross_entropy_compiles_as_one_graph(weights: list[float] | None) -> None:
    loss = PartialCrossEntropyLoss(weights)
    logits, target = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(3, (2, 4, 5))
    target[0] = 255
    torch.testing.assert_close(
        torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, target), loss(logits, target)
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(run_process(1, Path(sys.argv[1])), Path(sys.argv[1], "1.pt"))
