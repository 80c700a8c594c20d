"""The plans that the rule-based walker reads from texts, and how it walks them."""

import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.street_rules import END, Plan, RulesAgent, read_plan


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("Go straight. At the next light turn right. Stop two steps after the turn.", Plan(((1, 1),), steps=2)),
        ("Pass two lights. Then turn left at the next light.", Plan(((3, -1),))),
        ("Head past the 1st light. At the 2nd light turn left.", Plan(((2, -1),))),
        ("Go to the T-intersection and make a left.", Plan(((END, -1),))),
        ("Make a right at the third intersection, then take a left at the following light.", Plan(((3, 1), (1, -1)))),
        ("Turn around. Walk to the light with a bank on your right and turn left.", Plan(((1, -1),), around=True)),
        ("The park is on your left. Stop right before the next intersection.", Plan((), junctions=1)),
        ("", Plan(())),
    ],
)
def test_plans(text, plan):
    assert read_plan(text) == plan


@pytest.mark.parametrize("semantics", ["touchdown", "velma"])
def test_it_walks_synthetic_instructions_far_better_than_chance(semantics):
    env = make_vec(
        "Street-v0", 40, order="listed", record=True, items=40, semantics=semantics, autoreset_mode="DISABLED"
    )
    agent, found = RulesAgent(env), {}
    obs, _ = env.reset(seed=0, options={"episode": np.arange(40)})
    state, reset = agent.initial_state(40), np.ones(40, bool)
    for _ in range(55):
        action, state, _ = agent.act(obs, state, reset)
        obs, _, _, _, info = env.step(action)
        reset = np.zeros(40, bool)
        found.update({row: info["kpa"][row] for row in np.flatnonzero(info.get("_kpa", reset))})
    assert len(found) == 40 and np.mean(list(found.values())) > 0.6


def test_it_says_what_it_reads():
    with pytest.raises(UsageError, match="reads instruction and vector"):
        RulesAgent().act({"vector": np.zeros((1, 21))}, RulesAgent().initial_state(1), np.ones(1, bool))
