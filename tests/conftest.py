"""Without a GPU, Triton kernels are interpreted; Triton must know before it is first imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
