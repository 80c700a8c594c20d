"""Suites of questions about streams: one file each, run by ``embodied-mem eval`` like the suites of tasks."""
