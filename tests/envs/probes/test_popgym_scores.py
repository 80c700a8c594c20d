"""The scores that the probes with POPGym's rules state are those that scripted play earns."""

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from scipy.stats import hypergeom

from embodied_mem.envs import ENVIRONMENTS
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.oracle import oracle

N = 1500
DIFFICULTIES = ("easy", "medium", "hard")
STATED = {item.name: item for item in ENVIRONMENTS}


def stated(name, which, difficulty):
    value = getattr(STATED[name], which)
    return value[difficulty] if isinstance(value, dict) else value


def play(name, difficulty, policy, n=N, seed=0):
    """Return the returns (n,), successes (n,) and steps of one episode in every row."""
    env = make_vec(name, n, autoreset_mode="DISABLED", difficulty=difficulty)
    observed, _ = env.reset(seed=seed)
    total, success, steps = np.zeros(n), np.zeros(n, bool), 0
    alive = np.ones(n, bool)
    while alive.any():
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total += reward
        steps += 1
        alive &= ~(terminated | truncated)
        if "success" in info:
            success |= info["success"]
    return total, success, steps


def agrees(total, expected):
    """Mean returns lie within four standard errors (and the rounding of what is stated) of ``expected``."""
    return abs(total.mean() - expected) < 4 * total.std() / np.sqrt(len(total)) + 6e-4


GAMES = ["Autoencode-v0", "CountRecall-v0", "Concentration-v0", "HigherLower-v0", "MultiarmedBandit-v0"]
GAMES += ["Battleship-v0", "MineSweeper-v0", "LabyrinthExplore-v0", "LabyrinthEscape-v0"]
CONTROL = [
    *(f"{kind}CartPole-v0" for kind in ("PositionOnly", "VelocityOnly", "NoisyPositionOnly")),
    *(f"{kind}Pendulum-v0" for kind in ("PositionOnly", "VelocityOnly", "NoisyPositionOnly")),
]


@pytest.mark.parametrize("name", GAMES + CONTROL)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_oracles_earn_what_is_stated(name, difficulty):
    n = 200 if name.startswith(("Concentration", "Labyrinth")) else N
    best, reset = oracle(name), np.zeros(n, bool)
    state = best.initial_state(n)

    def know(env, seen):
        nonlocal state
        action, state, _ = best.act(seen, state, reset, env.privileged())
        return action

    total, success, _ = play(name, difficulty, know, n=n)
    assert agrees(total, stated(name, "oracle", difficulty)) and success.all()


@pytest.mark.parametrize("name", GAMES + CONTROL)
def test_an_unknown_difficulty_is_refused(name):
    with pytest.raises(UsageError, match=r"unknown difficulty 'meduim' \(did you mean 'medium'"):
        make_vec(name, 1, difficulty="meduim")


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_autoencode_without_memory(difficulty):
    total, success, _ = play("Autoencode-v0", difficulty, lambda env, seen: seen[:, 1])
    assert agrees(total, stated("Autoencode-v0", "memoryless", difficulty)) and not success.any()


@pytest.mark.parametrize(("difficulty", "decks", "kinds"), [("easy", 1, 2), ("medium", 2, 4), ("hard", 4, 13)])
def test_count_recall_without_memory(difficulty, decks, kinds):
    cards = 52 * decks
    same, seen = cards // kinds, np.arange(1, cards)[:, None]
    counts = np.arange(same + 1)
    # Chances of each count over an episode where the query is the card on the table, and where it is another kind.
    alike = hypergeom.pmf(counts - 1, cards - 1, same - 1, seen - 1).mean(0)
    other = hypergeom.pmf(counts, cards - 1, same, seen - 1).mean(0)
    expected = 2 * (alike.max() + (kinds - 1) * other.max()) / kinds - 1
    assert stated("CountRecall-v0", "memoryless", difficulty) == pytest.approx(expected, abs=6e-4)
    total, _, _ = play(
        "CountRecall-v0",
        difficulty,
        lambda env, seen: np.where(seen[:, 0] == seen[:, 1], alike.argmax(), other.argmax()),
    )
    assert agrees(total, expected)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_concentration_by_turning_any_card_that_looks_face_down(difficulty):
    generator = np.random.default_rng(0)

    def react(env, seen):
        return ((seen == env.face_down) * generator.random(seen.shape, dtype=np.float32)).argmax(axis=1)

    total, _, _ = play("Concentration-v0", difficulty, react)
    # Both figures are measured: this one and the stated one.
    assert total.mean() == pytest.approx(stated("Concentration-v0", "memoryless", difficulty), abs=0.02)


@pytest.mark.parametrize(("difficulty", "counting"), [("easy", 0.53), ("medium", 0.52), ("hard", 0.51)])
def test_higher_lower_without_memory_and_by_counting(difficulty, counting):
    total, _, _ = play("HigherLower-v0", difficulty, lambda env, seen: (seen > 6).astype(np.int64))
    assert agrees(total, 84 / 169)
    assert stated("HigherLower-v0", "memoryless", difficulty) == pytest.approx(84 / 169, abs=6e-4)
    ranks, left = np.arange(13), np.zeros((N, 13))

    def count(env, seen):
        left[...] = np.where(left.sum(1, keepdims=True) == 0, 4 * env.decks, left)
        left[np.arange(N), seen] -= 1
        above, below = ((left * (side > 0)).sum(1) for side in (ranks - seen[:, None], seen[:, None] - ranks))
        return np.where(below > above, 1, 0)

    total, _, _ = play("HigherLower-v0", difficulty, count)
    assert total.mean() == pytest.approx(counting, abs=0.012)


@pytest.mark.parametrize(("difficulty", "arms", "steps"), [("easy", 10, 200), ("medium", 20, 400), ("hard", 30, 600)])
def test_bandit_without_memory(difficulty, arms, steps):
    # Chance to win at step t from a chain of win and loss: w' = w X + (1 - w) Y, from a loss; X over the one arm by
    # quadrature, Y, the mean of all others, by its two first moments.
    nodes, weights = leggauss(64)
    one, weight = (nodes + 1) / 2, weights / 2

    def rate(y):
        pull = one - y
        return (y / (1 - pull) * (1 - pull * (1 - pull**steps) / (1 - pull) / steps)) @ weight

    spread = np.sqrt(1 / 12 / (arms - 1))
    expected = rate(0.5 + spread) + rate(0.5 - spread) - 1
    assert stated("MultiarmedBandit-v0", "memoryless", difficulty) == pytest.approx(expected, abs=1e-3)
    generator = np.random.default_rng(0)
    total, _, _ = play(
        "MultiarmedBandit-v0",
        difficulty,
        lambda env, seen: np.where(seen == 1, 0, generator.integers(1, arms, len(seen))),
    )
    assert agrees(total, expected)


def drawn(generator, chances, size):
    """Return places (n, 2) drawn from a distribution per row, chances (n, size * size)."""
    place = (generator.random((len(chances), 1)) * chances.sum(1, keepdims=True) > chances.cumsum(1)).sum(1)
    return np.stack(np.divmod(place, size), axis=1)


@pytest.mark.parametrize(("difficulty", "size"), [("easy", 8), ("medium", 10), ("hard", 12)])
def test_battleship_without_memory(difficulty, size):
    env = make_vec("Battleship-v0", 4000, difficulty=difficulty)
    env.reset(seed=1)
    cells, ships = size * size, 12
    boards = env.privileged()["battleship_board"]
    ship = np.mean([np.rot90(side.mean(0), turn) for side in (boards, boards[:, ::-1]) for turn in range(4)], axis=0)
    ship = ship.reshape(-1)
    assert ship.sum() == pytest.approx(ships)
    # q of P (1 - q)^(cells - 1) = level, with the level at which q sums to 1.
    levels = np.linspace(0.01, 1.0, 2000)[:, None] * ship.min()
    q = 1 - (levels / ship) ** (1 / (cells - 1))
    q = q[np.abs(q.sum(1) - 1).argmin()]
    hits = (ship * (1 - (1 - q) ** cells)).sum()
    expected = hits / ships - (cells - hits) / (cells - ships)
    assert stated("Battleship-v0", "memoryless", difficulty) == pytest.approx(expected, abs=3e-3)
    generator = np.random.default_rng(0)
    total, _, _ = play("Battleship-v0", difficulty, lambda env, seen: drawn(generator, np.tile(q, (N, 1)), size))
    assert abs(total.mean() - expected) < 4 * total.std() / np.sqrt(N) + 3e-3


SQUARES = ([1, 2, 5, 6, 7, 9], [3, 4, 8, 11, 12, 14], [0, 15])


@pytest.mark.parametrize(("difficulty", "size"), [("easy", 4), ("medium", 6), ("hard", 8)])
def test_minesweeper_without_memory(difficulty, size):
    chances = np.ones((10, size * size))
    if difficulty == "easy":
        for mines, squares in enumerate(SQUARES):
            chances[mines] = np.isin(np.arange(16), squares)
    generator = np.random.default_rng(0)
    total, _, _ = play("MineSweeper-v0", difficulty, lambda env, seen: drawn(generator, chances[seen], size))
    # Both figures are measured.
    assert abs(total.mean() - stated("MineSweeper-v0", "memoryless", difficulty)) < 5 * total.std() / np.sqrt(N)


def lottery(env, seen, generator=np.random.default_rng(0)):
    return (generator.random(len(seen)) < 1 / (1 + np.exp(-24 * seen[:, 1]))).astype(np.int64)


def torque(values):
    return np.clip(values, -2, 2)[:, None].astype(np.float32)


REACTIONS = {
    "PositionOnlyCartPole-v0": lottery,
    "VelocityOnlyCartPole-v0": lambda env, seen: (seen[:, 1] + 0.1 * seen[:, 0] > 0).astype(np.int64),
    "NoisyPositionOnlyCartPole-v0": lambda env, seen: (seen[:, 1] > 0).astype(np.int64),
    "PositionOnlyPendulum-v0": lambda env, seen: torque(-30 * seen[:, 1]),
    "NoisyPositionOnlyPendulum-v0": lambda env, seen: torque(-10 * seen[:, 1]),
    "VelocityOnlyPendulum-v0": lambda env, seen: torque(
        2 * np.sign(seen[:, 0]) * np.where(np.abs(seen[:, 0]) < 5.4, 1, -1)
    ),
}


@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_control_without_memory(name, difficulty):
    total, _, _ = play(name, difficulty, REACTIONS[name])
    # Both figures are measured: each has a standard error.
    assert abs(total.mean() - stated(name, "memoryless", difficulty)) < 5 * total.std() / np.sqrt(N) + 2e-3


def follow_the_wall(env, seen):
    """Keep the left hand on the wall; the last action, which is observed, is the heading."""
    view, last, rows = seen[:, :9].reshape(-1, 3, 3), seen[:, 9], np.arange(len(seen))
    back, down, across = np.array([1, 0, 3, 2, 4]), np.array([0, 0, -1, 1]), np.array([-1, 1, 0, 0])
    heading = np.minimum(last, 3)
    left = np.array([3, 2, 0, 1])[heading]
    action = back[heading]
    for turn in (back[left], heading, left):
        action = np.where(np.isin(view[rows, 1 + down[turn], 1 + across[turn]], (0, 3)), turn, action)
    # First the way into the maze: the view is cut at the upper and the left rim.
    north, west = view[:, 0, 1] == 2, view[:, 1, 0] == 2
    inward = np.select([north, west, view[:, 0, 1] == 0], [3, 1, 2], 0)
    return np.where(last == 4, inward, action)


@pytest.mark.parametrize("name", ["LabyrinthExplore-v0", "LabyrinthEscape-v0"])
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_labyrinths_without_memory(name, difficulty):
    total, success, _ = play(name, difficulty, follow_the_wall)
    assert success.all() and agrees(total, stated(name, "memoryless", difficulty))
