"""Exact resume, crash-safe checkpoints, and stopping between two steps."""

from lightning_modules.fault_tolerance.checkpoints import (
    CheckpointError,
    DurableCheckpointIO,
    RegularCheckpoint,
    StepSeed,
)
from lightning_modules.fault_tolerance.step_guard import NonFiniteError, StepGuard
from lightning_modules.fault_tolerance.stop_signals import Stopped

__all__ = [
    "CheckpointError",
    "DurableCheckpointIO",
    "NonFiniteError",
    "RegularCheckpoint",
    "StepGuard",
    "StepSeed",
    "Stopped",
]
