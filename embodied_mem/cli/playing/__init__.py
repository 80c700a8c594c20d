"""The parts of ``embodied-mem play``: the game, its picture, a terminal, a window, a video file."""
