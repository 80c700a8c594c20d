"""Every probe can be made and trained, and its bounds are those of the environment."""

import re

import numpy as np
import pytest

from embodied_mem.envs.registration import ENVIRONMENTS
from embodied_mem.experiments.memory_atlas.cell import play
from embodied_mem.experiments.memory_atlas.plan import make_plan, preset_names, validate
from embodied_mem.experiments.memory_atlas.probes import ABILITIES, PROBES
from embodied_mem.policies.scripted.oracle import oracle

REGISTERED = {item.id: item for item in ENVIRONMENTS}


def test_the_probes_cover_every_ability_and_no_other():
    assert {ability for probe in PROBES.values() for ability in probe.abilities} == set(ABILITIES)
    for name in preset_names():
        shown = {ability for probe in make_plan(name).probes for ability in PROBES[probe].abilities}
        assert shown == set(ABILITIES), name


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_bounds_are_those_the_environment_states(probe):
    item = REGISTERED[probe.env]
    if probe.name == "endless_tmaze":  # it states success, not return
        pytest.skip("derived in the probe's comment; the next tests play it")
    for stated, ours in ((item.memoryless, probe.memoryless), (item.oracle, probe.oracle)):
        if isinstance(stated, dict):
            stated = stated[probe.train["difficulty"]]
        if isinstance(stated, str):
            stated = float(re.findall(r"[\d.]+", stated)[-1])
        assert ours == pytest.approx(stated)
    assert (probe.score(probe.memoryless), probe.score(probe.oracle)) == (0.0, 1.0)


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_the_oracle_scores_one(probe):
    returns = play(oracle(probe.env), probe, 16)
    assert probe.score(float(np.mean(returns))) == pytest.approx(1.0, abs=1e-3)


class Guesser:
    """Walks to the junction and turns left or right there, without memory."""

    needs_privileged = False

    def initial_state(self, n, seed=None):
        return np.random.default_rng(seed)

    def act(self, obs, state, reset, privileged=None):
        x = (obs["vector"] if isinstance(obs, dict) else obs)[:, 0]
        return np.where(x >= 1, state.integers(1, 3, len(x)), 0), state, {}


def test_a_guess_at_every_junction_scores_zero_on_the_endless_tmaze():
    returns = play(Guesser(), PROBES["endless_tmaze"], 2000)
    assert PROBES["endless_tmaze"].score(float(np.mean(returns))) == pytest.approx(0.0, abs=0.04)


def test_every_memory_of_the_presets_plays_every_probe():
    plans = {name: make_plan(name) for name in preset_names()}
    for plan in plans.values():
        assert set(plan.memories) <= set(plans["long"].memories) and set(plan.probes) <= set(plans["long"].probes)
    validate(plans["long"])
