"""Peer of bench ``sim``: MiniWorld's FourRooms at 64 x 64, rgb and depth, over EGL."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embodied_mem.experiments.bench.sim_peers import serve


def make() -> Callable[[], None]:
    """Return a function that plays one step and draws rgb and depth."""
    import pyglet

    pyglet.options["headless"] = True
    import gymnasium
    import miniworld  # noqa: F401  registers the environments

    env = gymnasium.make("MiniWorld-FourRooms-v0", obs_width=64, obs_height=64)
    env.reset(seed=0)
    draw = np.random.default_rng(0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(int(draw.integers(3)))
        env.unwrapped.render_depth()  # type: ignore[attr-defined]
        if terminated or truncated:
            env.reset()

    return step


if __name__ == "__main__":
    serve(make)
