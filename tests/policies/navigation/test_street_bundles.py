"""The committed street agents load, and follow texts of a town that they were not trained in."""

import pytest
from gymnasium.vector import AutoresetMode

from embodied_mem.agent import CONFIG_FILE, load_agent
from embodied_mem.envs.make import make_vec
from embodied_mem.experiments.street_agents import BUNDLES, MAIN
from embodied_mem.policies.navigation.follow_seed import play_success

FOLDERS = sorted(path.parent for path in (BUNDLES / MAIN).glob(f"*/{CONFIG_FILE}"))


def test_there_are_three():
    assert [folder.name for folder in FOLDERS] == ["seed0", "seed1", "seed2"]


@pytest.mark.parametrize("folder", FOLDERS[:1], ids=lambda folder: folder.name)
def test_it_follows_in_the_town(folder):
    options = {"data": "synthetic", "language": "varied", "split": "test", "style": "map2seq", "items": 60}
    sensors = ("vector", "traffic", "instruction")
    env = make_vec(
        "embodied_mem/Street-v0", 60, autoreset_mode=AutoresetMode.DISABLED, order="listed", sensors=sensors, **options
    )
    assert play_success(env, load_agent(folder), 0) > 0.15
    env.close()
