"""Reports and recordings of runs, made from files alone."""

from embodied_mem.viewer.report import write_report

__all__ = ["write_report"]
