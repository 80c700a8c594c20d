"""Question-answering benchmarks over videos, one file each: the format of the file, and its scores."""
