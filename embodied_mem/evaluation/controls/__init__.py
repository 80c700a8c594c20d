"""Controls: what stands beside a score to show that memory earned it. One file each, registered by name."""

from embodied_mem.evaluation.controls.contract import Control, parse_control

__all__ = ["Control", "parse_control"]
