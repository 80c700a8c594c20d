"""Streams for the tests: scenes with noise, and the memories they are written to."""

import numpy as np
import pytest

from embodied_mem.stream.memory import make_stream_memory


class Stream:
    """Frames of several scenes: tokens (N, P, D) float32, uneven times (N,), key frames (N, H, W, 3), scene (N,)."""

    def __init__(self, lengths, tokens=3, width=8, noise=0.2, seed=0, start_s=0.0):
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((len(lengths), width)).astype(np.float32)
        self.centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        self.scene = np.repeat(np.arange(len(lengths)), lengths)
        count = len(self.scene)
        self.tokens = (
            self.centres[self.scene][:, None] + noise * rng.standard_normal((count, tokens, width)) / width**0.5
        )
        self.tokens = self.tokens.astype(np.float32)
        self.times = start_s + np.cumsum(rng.uniform(0.05, 0.5, count))
        self.frames = rng.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)

    def __len__(self):
        return len(self.scene)

    def write(self, memory, first=0, last=None):
        for index in range(first, len(self) if last is None else last):
            memory.write(self.tokens[index], float(self.times[index]), self.frames[index])
        return memory


@pytest.fixture(scope="session")
def stream():
    return Stream([40, 20, 60, 10, 30, 40])


@pytest.fixture
def make(request):
    return lambda name, **config: make_stream_memory(name, **config)


@pytest.fixture(scope="session")
def Scenes():
    return Stream
