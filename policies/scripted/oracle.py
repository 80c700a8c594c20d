"""``oracle``: the scripted optimum of whatever environment is played; ``expert`` and ``memoryless-oracle`` likewise.

An oracle is written for its environments and says so when it registers itself; `oracle` looks it up by environment id:

    @register("agent", "tmaze-oracle", oracle_for=("embodied_mem/TMaze-v0",))
    class TMazeOracle: ...

``expert_for`` names an agent that makes demonstrations, ``memoryless_for`` the best play without memory.

Oracles read ``env.privileged()`` and import no environment.
"""

from __future__ import annotations

import inspect
from typing import Any

from gymnasium.vector import VectorEnv

from embodied_mem import registry
from embodied_mem.errors import UsageError


@registry.register("agent", "oracle", about="scripted optimum of the environment, with privileged state")
def oracle(env_id: str, env: VectorEnv | None = None) -> Any:
    """Return the agent registered as ``oracle_for`` an environment.

    Args:
        env_id: Gymnasium id; a module prefix and the namespace ``embodied_mem/`` may be left out.
        env: passed on to oracles whose constructor names it.

    Raises:
        UsageError: no oracle is known for the environment.
    """
    return _serving("oracle", env_id, env)


@registry.register("agent", "expert", about="scripted expert of the environment, with privileged state")
def expert(env_id: str, env: VectorEnv | None = None) -> Any:
    """Return the agent registered as ``expert_for`` an environment; arguments and errors as `oracle`."""
    return _serving("expert", env_id, env)


@registry.register("agent", "memoryless-oracle", about="best scripted play of the environment without memory")
def memoryless_oracle(env_id: str, env: VectorEnv | None = None) -> Any:
    """Return the agent registered as ``memoryless_for`` an environment; arguments and errors as `oracle`."""
    return _serving("memoryless", env_id, env)


def _serving(role: str, env_id: str, env: VectorEnv | None) -> Any:
    short = _short(env_id)
    covered = []
    for name in registry.names("agent"):
        for served in registry.meta("agent", name).get(f"{role}_for", ()):
            if _short(served) == short:
                target = registry.get("agent", name)
                offered = {"env_id": env_id, "env": env}
                wanted = inspect.signature(target).parameters
                return target(**{key: value for key, value in offered.items() if key in wanted})
            covered.append(_short(served))
    raise UsageError(f"no {role} is known for {env_id!r}; known for: {', '.join(sorted(covered)) or 'none'}")


def _short(env_id: str) -> str:
    return env_id.rpartition(":")[2].removeprefix("embodied_mem/")
