"""``oracle``: the scripted optimum of whatever environment is played.

An oracle is written for its environments and says so when it registers itself; `oracle` looks it up by environment id:

    @register("agent", "tmaze-oracle", oracle_for=("embodied_mem/TMaze-v0",))
    class TMazeOracle: ...

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
    short = _short(env_id)
    covered = []
    for name in registry.names("agent"):
        for served in registry.meta("agent", name).get("oracle_for", ()):
            if _short(served) == short:
                target = registry.get("agent", name)
                offered = {"env_id": env_id, "env": env}
                wanted = inspect.signature(target).parameters
                return target(**{key: value for key, value in offered.items() if key in wanted})
            covered.append(_short(served))
    raise UsageError(
        f"no oracle is known for {env_id!r}; there are oracles for: {', '.join(sorted(covered)) or 'none'}"
    )


def _short(env_id: str) -> str:
    return env_id.rpartition(":")[2].removeprefix("embodied_mem/")
