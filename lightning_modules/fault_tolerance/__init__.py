"""Exact resume, crash-safe checkpoints, and stopping between two steps."""

from lightning_modules.fault_tolerance.checkpoint_io import CheckpointError, DurableCheckpointIO
from lightning_modules.fault_tolerance.checkpoints import RegularCheckpoint
from lightning_modules.fault_tolerance.step_flags import StepFlags
from lightning_modules.fault_tolerance.step_guard import NonFiniteError, StepGuard
from lightning_modules.fault_tolerance.step_seed import StepSeed
from lightning_modules.fault_tolerance.stop_signals import Stopped

__all__ = [
    "CheckpointError",
    "DurableCheckpointIO",
    "NonFiniteError",
    "RegularCheckpoint",
    "StepFlags",
    "StepGuard",
    "StepSeed",
    "Stopped",
]
