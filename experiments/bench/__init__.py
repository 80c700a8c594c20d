"""Benches: one file per subject, each a ratio against a named peer measured in the same run."""
