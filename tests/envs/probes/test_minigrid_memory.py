import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import MiniGridMemoryOracle

LEFT, RIGHT, FORWARD = range(3)
WALL, KEY, BALL = range(3)


def disabled(n, seed=0, **kwargs):
    env = make_vec("MiniGridMemory-v0", n, autoreset_mode="DISABLED", **kwargs)
    return env, env.reset(seed=seed)[0]


def cells(observed):
    """Return the view (N, 7, 7, 3) and the heading (N,)."""
    return observed[:, :147].reshape(-1, 7, 7, 3), observed[:, 147:].argmax(1)


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,), success (N,) and steps until the end (N,)."""
    n = env.num_envs
    total, success, steps, done = np.zeros(n), np.zeros(n, bool), np.zeros(n, int), np.zeros(n, bool)
    for _ in range(5 * 201**2):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        steps += ~done
        total += reward
        success |= info.get("success", False)
        done = terminated | truncated
        if done.all():
            return total, success, steps
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return MiniGridMemoryOracle().act(observed, {}, None, env.privileged())[0]


def test_the_first_view_of_the_passive_variant_shows_the_cue():
    env, observed = disabled(40)
    view, heading = cells(observed)
    assert (heading == 2).all()
    # Facing west from column 4: ahead is column 1 after three cells, north is to the right.
    assert (view[:, 3, 4, [KEY, BALL]].sum(1) == 1).all() and 0 < view[:, 3, 4, KEY].sum() < 40
    view[:, 3, 4] = 0
    drawn = np.ones((7, 7), bool)
    drawn[3:, 2:5] = False
    assert np.array_equal(view[..., WALL] == 1, np.repeat(drawn[None], 40, axis=0)) and view.sum((1, 2, 3)).max() == 37


def test_the_view_at_the_end_shows_both_objects_and_turns_with_the_agent():
    env, observed = disabled(40, size=10)
    for action in [RIGHT, RIGHT] + [FORWARD] * 4:
        observed = env.step(np.full(40, action))[0]
    facts = env.privileged()
    assert (facts["memory_x"] == 8).all() and (facts["memory_end"] == 7).all()
    view, heading = cells(observed)
    assert (heading == 0).all(), "facing east: north is on the left"
    assert (view[:, 6, 1, [KEY, BALL]].sum(1) == 1).all() and (view[:, 6, 5, [KEY, BALL]].sum(1) == 1).all()
    assert (view[:, 6, 1, KEY] != view[:, 6, 5, KEY]).all()
    assert (view[:, :6, :, WALL] == 1).all() and (view[:, 6, 2:5] == 0).all()
    view, heading = cells(env.step(np.full(40, LEFT))[0])
    assert (heading == 3).all() and (view[:, 4, 3, [KEY, BALL]].sum(1) == 1).all(), "facing north: two cells ahead"


def test_the_matching_side_earns_and_both_sides_end():
    env, observed = disabled(200, size=10)
    cue = cells(observed)[0][:, 3, 4, KEY]
    for action in [RIGHT, RIGHT] + [FORWARD] * 4:
        observed, reward, terminated, *_ = env.step(np.full(200, action))
        assert not terminated.any() and not reward.any()
    north = cells(observed)[0][:, 6, 1, KEY] == cue
    env.step(np.full(200, LEFT))
    _, reward, terminated, truncated, info = env.step(np.full(200, FORWARD))
    assert terminated.all() and not truncated.any() and np.array_equal(info["success"], north)
    assert reward == pytest.approx(np.where(north, 1 - 0.9 * 8 / 500, 0)) and 60 < north.sum() < 140


def test_walls_and_objects_stop_and_time_runs_out():
    env, _ = disabled(3, size=10)
    for action in [FORWARD] * 5 + [RIGHT] + [FORWARD] * 3:
        env.step(np.full(3, action))
    facts = env.privileged()
    assert (facts["memory_x"] == 1).all() and (facts["memory_y"] == 0).all(), "the cue stands north of here"
    for step in range(10, 501):
        _, reward, terminated, truncated, info = env.step(np.full(3, LEFT))
        assert not terminated.any() and truncated.all() == (step == 500)
    assert not info["success"].any() and not reward.any()


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"variant": "active"}, {"size": 21, "min_size": 10}, {"variant": "active", "size": 21, "min_size": 10}],
)
def test_the_oracle_always_succeeds(kwargs):
    env, observed = disabled(1000, **kwargs)
    total, success, steps = run(env, observed, oracle)
    size = kwargs.get("size", 13)
    assert success.all() and total == pytest.approx(1 - 0.9 * steps / (5 * size**2)) and total.min() > 0.9


@pytest.mark.parametrize("variant", ["passive", "active"])
def test_play_without_memory_is_at_chance(variant):
    rng = np.random.default_rng(0)
    env, observed = disabled(2000, variant=variant, size=11)

    def react(env, observed):
        """Face east, walk; between the two objects turn to either side; go where a side is faced."""
        view, heading = cells(observed)
        between = view[:, 6, 1, 1:].any(1) & view[:, 6, 5, 1:].any(1)
        beside = (view[:, 4, 3, 1:].any(1)) & (heading % 2 == 1)
        turn = np.where(heading == 3, RIGHT, LEFT)
        return np.where(
            beside, FORWARD, np.where(heading != 0, turn, np.where(between, rng.integers(0, 2, 2000), FORWARD))
        )

    success = run(env, observed, react)[1]
    assert success.mean() == pytest.approx(0.5, abs=0.04)


def test_who_remembers_the_cue_succeeds():
    env, observed = disabled(300, size=15, min_size=10)
    cue = cells(observed)[0][:, 3, 4, KEY]

    def recall(env, observed):
        view, heading = cells(observed)
        between = view[:, 6, 1, 1:].any(1) & view[:, 6, 5, 1:].any(1)
        side = np.where(view[:, 6, 1, KEY] == cue, LEFT, RIGHT)
        return np.where(heading % 2 == 1, FORWARD, np.where(between, side, np.where(heading == 2, RIGHT, FORWARD)))

    # Two turns to the right lead from west to east; the first of them faces north, a wall or the corridor's side.
    observed = env.step(np.full(300, RIGHT))[0]
    observed = env.step(np.full(300, RIGHT))[0]
    assert run(env, observed, recall)[1].all()


def test_no_view_holds_the_cue_and_a_choice():
    env, observed = disabled(200, size=10, variant="active")
    rng = np.random.default_rng(0)
    saw_cue = saw_choice = 0
    for _ in range(300):
        facts, (view, heading) = env.privileged(), cells(observed)
        # Where an object in view lies, in columns of the world.
        row, r, c, _ = np.nonzero(view[..., 1:])
        ahead, right = 6 - r, c - 3
        column = facts["memory_x"][row] + ahead * np.array([1, 0, -1, 0])[heading[row]]
        column += right * np.array([0, -1, 0, 1])[heading[row]]
        cue, choice = (np.bincount(row[column == x], minlength=200) > 0 for x in (1, 8))
        assert set(column) <= {1, 8} and not (cue & choice).any()
        saw_cue, saw_choice = saw_cue + cue.sum(), saw_choice + choice.sum()
        observed, _, terminated, truncated, _ = env.step(rng.integers(0, 3, 200))
        if (terminated | truncated).any():
            observed = env.reset(options={"reset_mask": terminated | truncated})[0]
    assert saw_cue > 1000 and saw_choice > 1000


def test_mixed_ends_are_drawn_evenly_and_not_shown():
    env, observed = disabled(3000, size=13, min_size=10)
    end = env.privileged()["memory_end"]
    assert np.bincount(end, minlength=11)[7:] / 3000 == pytest.approx(np.full(4, 0.25), abs=0.03)
    assert len(np.unique(observed, axis=0)) == 2, "the cue is all that differs"


def test_pictures_show_what_the_symbols_say():
    env, observed = disabled(20, obs="pixels", size=10)
    told, symbols = disabled(20, size=10)
    assert observed.shape == (20, 84, 84, 3)
    tiles = {}
    for action in [RIGHT, RIGHT] + [FORWARD] * 4 + [LEFT]:
        view, _ = cells(symbols)
        code = np.where(view.any(3), view.argmax(3) + 1, 0)
        code[:, 6, 3] = 4
        patches = observed.reshape(20, 7, 12, 7, 12, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 432)
        for value, patch in zip(code.ravel().tolist(), patches):
            assert np.array_equal(tiles.setdefault(value, patch), patch)
        observed, symbols = env.step(np.full(20, action))[0], told.step(np.full(20, action))[0]
    assert set(tiles) == {0, 1, 2, 3, 4} and len({tile.tobytes() for tile in tiles.values()}) == 5


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"variant": "lazy"}, "'passive' or 'active'"),
        ({"obs": "sound"}, "'symbolic' or 'pixels'"),
        ({"size": 9}, "size >= 10"),
        ({"size": 12, "min_size": 13}, r"min_size in \[10, 12\]"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("MiniGridMemory-v0", 1, **kwargs)
