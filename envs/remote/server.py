"""Hosting an environment of this Python for clients elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from gymnasium.vector import VectorEnv

from embodied_mem._version import __version__
from embodied_mem.envs.make import check_options, make_vec
from embodied_mem.spaces import space_to_json
from embodied_mem.wire.env_session import EnvServer


def env_server(
    env_id: str, options: Mapping[str, Any] | None = None, *, client_options: bool = False, **settings: Any
) -> EnvServer:
    """Return a server of an environment; a context manager that listens inside the block.

    Args:
        env_id: any id that `make_vec` takes.
        options: keywords of every client's environment.
        client_options: clients may give keywords of their own, over these.
        settings: ``rows``, ``clients`` and the fields of `wire.server.ServerSettings`.

    Raises:
        UsageError: the environment cannot be made, or a setting is out of range.
    """
    fixed = dict(options or {})
    check_options(env_id, fixed)

    def make(num_envs: int, autoreset_mode: str, given: Mapping[str, Any]) -> VectorEnv:
        check_options(env_id, given)
        return make_vec(env_id, num_envs, autoreset_mode=autoreset_mode, **{**fixed, **given})

    with closing(make_vec(env_id, 1, **fixed)) as env:
        hello = {
            "server": f"embodied_mem {__version__}",
            "env": env_id,
            "observation_space": space_to_json(env.single_observation_space),
            "action_space": space_to_json(env.single_action_space),
            "about": {"options": {key: str(value) for key, value in fixed.items()}},
        }
    return EnvServer(make, hello, client_options=client_options, **settings)
