"""Every probe with POPGym's rules replays POPGym's own environment on the same hidden state, step by step."""

import importlib
import itertools
import sys
import types

import numpy as np
import pytest

from embodied_mem.envs import rng
from embodied_mem.envs.make import make_vec
from embodied_mem.envs.probes import multiarmed_bandit, partial_cartpole, partial_pendulum
from embodied_mem.policies.scripted.oracle import oracle

pytest.importorskip("popgym", reason="popgym is not installed (extra: peers)")

ROWS, EPISODES = 3, 2
DIFFICULTIES = ("easy", "medium", "hard")


def stack(deck, kinds, values):
    """Make a POPGym deck keep an order in which its cards show ``values``, whatever shuffles it."""
    left = {value: list(np.flatnonzero(kinds == value)) for value in np.unique(kinds)}
    order = np.array([left[value].pop() for value in values])

    class Stacked:
        @staticmethod
        def shuffle(cards):
            cards[:] = order

    original = type(deck).reset
    deck.reset = lambda shuffle=True, rng=None: original(deck, shuffle=True, rng=Stacked)


# How the hidden state of our row enters POPGym's environment. Cards are dealt from the end of a deck.


def suits(peer, facts, ours, row):
    stack(peer.deck, peer.deck.suits_idx, facts["suit_deck"][::-1])


def ranks(peer, facts, ours, row):
    stack(peer.deck, peer.deck.ranks_idx, facts["rank_deck"][::-1])


def counts(peer, facts, ours, row):
    stack(peer.value_deck, peer.deck_idx_type, facts["count_values"][::-1])
    stack(peer.query_deck, peer.deck_idx_type, facts["count_queries"][::-1])


def pairs(peer, facts, ours, row):
    stack(peer.deck, peer.deck_idx_type, facts["concentration_deck"])


def arms(peer, facts, ours, row):
    key, pulls = ours.keys[row : row + 1], itertools.count()

    class Drawn:
        @staticmethod
        def random(size=None, dtype=None):
            if size is not None:
                return facts["bandit_chance"].astype(dtype)
            return rng.uniform(key, multiarmed_bandit.PAY_STREAM, next(pulls))[0]

    peer.np_random = Drawn


def ships(peer, facts, ours, row):
    peer.place_ship = lambda board, length: facts["battleship_board"].astype(np.int8)


def mines(peer, facts, ours, row):
    class Chosen:
        @staticmethod
        def choice(squares, size, replace):
            return squares[facts["minesweeper_field"].reshape(-1) == 1]

    peer.np_random = Chosen


class FixedMaze:
    """Stands for mazelib's maze: ``grid`` is set before an episode and tells start and end."""

    next_grid = None

    def generate(self):
        grid = self.next_grid
        self.start, self.end = (next(map(tuple, np.argwhere(grid == kind)), None) for kind in (2, 3))
        self.grid = np.where(grid > 1, 1, grid)

    def generate_entrances(self, start_outer):
        assert start_outer


def mazes(peer, facts, ours, row):
    FixedMaze.next_grid = facts["labyrinth_grid"]


@pytest.fixture
def mazelib(monkeypatch):
    """POPGym imports mazelib for its labyrinths; a stand-in hands it our mazes, so it need not be installed."""
    package, generate, hunt = (types.ModuleType(name) for name in ("mazelib", "generate", "HuntAndKill"))
    package.Maze, hunt.HuntAndKill = FixedMaze, lambda *size: None
    monkeypatch.setitem(sys.modules, "mazelib", package)
    monkeypatch.setitem(sys.modules, "mazelib.generate", generate)
    monkeypatch.setitem(sys.modules, "mazelib.generate.HuntAndKill", hunt)


class Noise:
    """Stands for NumPy's generator: start values at a reset, then our noise, step by step."""

    def __init__(self, start, key, stream):
        self.start, self.key, self.stream, self.t = start, key, stream, itertools.count()

    def uniform(self, low, high, size=None):
        return np.array(self.start)

    def normal(self, mean, sigma):
        return mean + sigma * rng.normal(self.key, self.stream, 2 * next(self.t) + np.arange(2))


def poles(peer, facts, ours, row):
    peer.np_random = Noise(facts["cartpole_state"], ours.keys[row : row + 1], partial_cartpole.NOISE_STREAM)


def pendulums(peer, facts, ours, row):
    peer.np_random = Noise(facts["pendulum_state"], ours.keys[row : row + 1], partial_pendulum.NOISE_STREAM)


PEERS = {
    "RepeatPrevious-v0": ("repeat_previous:RepeatPrevious", suits),
    "RepeatFirst-v0": ("repeat_first:RepeatFirst", suits),
    "Autoencode-v0": ("autoencode:Autoencode", suits),
    "CountRecall-v0": ("count_recall:CountRecall", counts),
    "Concentration-v0": ("concentration:Concentration", pairs),
    "HigherLower-v0": ("higher_lower:HigherLower", ranks),
    "MultiarmedBandit-v0": ("multiarmed_bandit:MultiarmedBandit", arms),
    "Battleship-v0": ("battleship:Battleship", ships),
    "MineSweeper-v0": ("minesweeper:MineSweeper", mines),
    "LabyrinthExplore-v0": ("labyrinth_explore:LabyrinthExplore", mazes),
    "LabyrinthEscape-v0": ("labyrinth_escape:LabyrinthEscape", mazes),
    "PositionOnlyCartPole-v0": ("position_only_cartpole:PositionOnlyCartPole", poles),
    "VelocityOnlyCartPole-v0": ("velocity_only_cartpole:VelocityOnlyCartPole", poles),
    "NoisyPositionOnlyCartPole-v0": ("noisy_position_only_cartpole:NoisyPositionOnlyCartPole", poles),
    "PositionOnlyPendulum-v0": ("position_only_pendulum:PositionOnlyPendulum", pendulums),
    "NoisyPositionOnlyPendulum-v0": ("noisy_position_only_pendulum:NoisyPositionOnlyPendulum", pendulums),
}


def spaces_agree(ours, theirs):
    """Tuples of discrete spaces are one MultiDiscrete space in ours; everything else is the same."""
    if hasattr(theirs, "spaces"):
        return ours.nvec.tolist() == [space.n for space in theirs.spaces]
    return ours == theirs or (hasattr(theirs, "nvec") and ours.nvec.tolist() == theirs.nvec.tolist())


@pytest.mark.filterwarnings("ignore:Maze environments:DeprecationWarning")
@pytest.mark.parametrize("name", list(PEERS))
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_observations_rewards_and_ends_are_popgyms(name, difficulty, mazelib):
    target, enter = PEERS[name]
    module, _, cls = target.partition(":")
    peer_class = getattr(importlib.import_module(f"popgym.envs.{module}"), cls + difficulty.capitalize())
    peers = [peer_class() for _ in range(ROWS)]
    ours = make_vec(name, ROWS, autoreset_mode="DISABLED", difficulty=difficulty)
    assert spaces_agree(ours.single_observation_space, peers[0].observation_space)
    assert spaces_agree(ours.single_action_space, peers[0].action_space)
    best = oracle(name, ours)
    generator = np.random.default_rng(0)
    ours.action_space.seed(0)
    for episode in range(EPISODES):
        observed, _ = ours.reset(seed=11 if episode == 0 else None)
        facts = ours.privileged()
        for row, peer in enumerate(peers):
            enter(peer, {key: value[row] for key, value in facts.items()}, ours, row)
            assert np.array_equal(np.asarray(peer.reset()[0]), observed[row])
        state, reset, alive = best.initial_state(ROWS, 0), np.ones(ROWS, bool), np.ones(ROWS, bool)
        while alive.any():
            right, state, _ = best.act(observed, state, reset, ours.privileged())
            # The first row plays as the oracle, the last at random, those between half and half.
            guess = generator.random(ROWS) < np.linspace(0.0, 1.0, ROWS)
            shape = (ROWS,) + (1,) * (right.ndim - 1)
            played = np.where(guess.reshape(shape), ours.action_space.sample(), right)
            observed, reward, terminated, truncated, _ = ours.step(played)
            reset = np.zeros(ROWS, bool)
            for row in np.flatnonzero(alive):
                seen, gained, ended, cut, _ = peers[row].step(played[row])
                assert np.allclose(np.asarray(seen), observed[row], rtol=0, atol=1e-6), (episode, row)
                assert reward[row] == pytest.approx(gained, abs=1e-6)
                assert (bool(terminated[row]), bool(truncated[row])) == (bool(ended), bool(cut))
            alive &= ~(terminated | truncated)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_velocity_only_pendulum_is_the_hidden_half_of_popgyms(difficulty):
    """POPGym has no such game: the speed comes from the state of its position-only pendulum."""
    position = importlib.import_module("popgym.envs.position_only_pendulum")
    peer = getattr(position, "PositionOnlyPendulum" + difficulty.capitalize())()
    ours = make_vec("VelocityOnlyPendulum-v0", 1, autoreset_mode="DISABLED", difficulty=difficulty)
    observed, _ = ours.reset(seed=3)
    pendulums(peer, {"pendulum_state": ours.privileged()["pendulum_state"][0]}, ours, 0)
    peer.reset()
    ours.action_space.seed(0)
    truncated = np.zeros(1, bool)
    while not truncated.any():
        assert observed[0] == pytest.approx(peer.get_state()[2:], abs=1e-6)
        action = ours.action_space.sample()
        observed, reward, _, truncated, _ = ours.step(action)
        _, gained, _, cut, _ = peer.step(action[0])
        assert (reward[0], bool(truncated[0])) == (pytest.approx(gained, abs=1e-6), cut)


def test_ships_lie_where_popgym_puts_them():
    battleship = importlib.import_module("popgym.envs.battleship")
    peer = battleship.BattleshipEasy()
    boards = []
    for seed in range(1500):
        peer.reset(seed=seed)
        boards.append(peer.board.copy())
    ours = make_vec("Battleship-v0", 20_000, difficulty="easy")
    ours.reset(seed=0)
    boards, board = np.array(boards), ours.privileged()["battleship_board"]
    assert (board.sum((1, 2)) == 12).all()
    # Five standard errors of the rarer sample.
    tolerance = 5 * np.sqrt(0.25 * 0.75 / len(boards))
    assert np.abs(boards.mean(0) - board.mean(0)).max() < tolerance
    # Neighbours along rows and columns lie together as often.
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        theirs = np.mean([one[a] & one[b] for one in boards], axis=0)
        assert np.abs(theirs - np.mean([one[a] & one[b] for one in board], axis=0)).max() < tolerance
