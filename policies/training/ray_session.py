"""Ray for one run: started quietly and shut down again, unless the caller has it running already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.private_ray import start_private_ray

OFFLINE_ACTORS = 4
"""Tasks and actors that ray.data holds at once while it reads episodes; with fewer it waits for ever."""


@contextmanager
def ray_session(address: str, config: TrainConfig, concurrent: int = 1) -> Iterator[None]:
    """Run the block with Ray initialised.

    Args:
        address: ``local`` for a private Ray on this machine, else the cluster to join.
        config: says how many actors a run needs.
        concurrent: runs at a time (sweeps).
    """
    offline = OFFLINE_ACTORS if config.episodes_path is not None else 0
    with ray_for(address, concurrent * (1 + config.num_env_runners + config.num_learners + offline)):
        yield


@contextmanager
def ray_for(address: str, actors: int) -> Iterator[None]:
    """Run the block with Ray initialised for this many actors, which take a CPU each; ``address`` as `ray_session`."""
    quiet_ray()
    import ray

    if ray.is_initialized():
        yield
        return
    if address == "local":
        # Logical CPUs only admit actors; more of them than cores lets a small machine run a large preset.
        cpus = max(os.cpu_count() or 1, actors)
        start_private_ray(num_cpus=cpus, _system_config={"metrics_report_interval_ms": 3_600_000})
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def quiet_ray() -> None:
    """Keep Ray's notices of new defaults and its telemetry out of the terminal; errors still show."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_RUNTIME_ENV_LOG_TO_DRIVER_ENABLED", "0")
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
