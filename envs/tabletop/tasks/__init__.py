"""The tabletop tasks, one file each."""
