"""The card probes replay POPGym's own environments on the same hidden decks."""

import numpy as np
import pytest

from embodied_mem.envs.make import make_vec

pytest.importorskip("popgym", reason="popgym is not installed (extra: peers)")

NAMES = {"RepeatPrevious-v0": "repeat_previous:RepeatPrevious", "RepeatFirst-v0": "repeat_first:RepeatFirst"}


def deal_like(env, suits):
    """Reset a POPGym environment so that it deals the given suits, in order."""
    deck, stacks = env.deck, {suit: list(np.flatnonzero(env.deck.suits_idx == suit)) for suit in range(4)}
    order = np.array([stacks[suit].pop() for suit in suits])

    class Stacked:
        @staticmethod
        def shuffle(cards):
            # The last index is dealt first.
            cards[:] = order[::-1]

    original = deck.reset
    deck.reset = lambda shuffle=True, rng=None: original(shuffle=True, rng=Stacked)
    return env.reset(seed=0)[0]


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_observations_rewards_and_ends_are_popgyms(name, difficulty):
    import importlib

    module, _, cls = NAMES[name].partition(":")
    peer_class = getattr(importlib.import_module(f"popgym.envs.{module}"), cls + difficulty.capitalize())
    ours = make_vec(name, 3, autoreset_mode="DISABLED", difficulty=difficulty)
    first, _ = ours.reset(seed=11)
    decks = ours.privileged()["suit_deck"]
    peers = [peer_class() for _ in range(3)]
    assert [deal_like(peer, deck) for peer, deck in zip(peers, decks)] == first.tolist()
    assert peers[0].observation_space == ours.single_observation_space
    assert peers[0].action_space == ours.single_action_space

    generator = np.random.default_rng(0)
    steps = 0
    while steps < 2000:
        steps += 1
        right = np.maximum(ours.privileged()["suit_target"], 0)
        played = np.where(generator.random(3) < 0.5, right, generator.integers(0, 4, 3))
        observed, reward, terminated, truncated, _ = ours.step(played)
        theirs = [peer.step(action) for peer, action in zip(peers, played)]
        assert [item[0] for item in theirs] == observed.tolist()
        assert reward == pytest.approx([item[1] for item in theirs], abs=1e-7)
        assert [item[2] for item in theirs] == terminated.tolist() and not truncated.any()
        if terminated.any():
            break
    assert steps == peers[0].max_episode_length
