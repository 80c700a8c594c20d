import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.envs.probes import _ballet_scene as scene
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import BalletOracle
from embodied_mem.spaces import decode_text

N, NE, E, SE, S, SW, W, NW = range(8)


def disabled(n, seed=0, **kwargs):
    env = make_vec("Ballet-v0", n, autoreset_mode="DISABLED", **kwargs)
    return env, env.reset(seed=seed)[0]


def watch(env, steps, action=N):
    """Play ``steps`` ignored actions; return the observations (steps of dicts)."""
    return [env.step(np.full(env.num_envs, action))[0] for _ in range(steps)]


def test_every_dance_has_sixteen_moves_within_one_cell_and_comes_home():
    offsets = scene.dance_offsets()
    assert offsets.shape == (13, 17, 2) and abs(offsets).max() == 1 and (offsets[:, -1] == 0).all()
    assert (abs(np.diff(offsets, axis=1)).max(axis=2) == 1).all(), "king moves"
    assert len({dance.tobytes() for dance in offsets}) == 13
    names = list(scene.DANCES)
    assert np.array_equal(offsets[names.index("circle_ccw")] * [1, -1], offsets[names.index("circle_cw")])
    assert np.array_equal(-offsets[names.index("chevron_up")], offsets[names.index("chevron_down")])


@pytest.mark.parametrize(
    ("level", "steps"),
    [
        ("2_delay16", 62),
        ("4_delay16", 124),
        ("8_delay16", 248),
        ("2_delay48", 126),
        ("4_delay48", 252),
        ("8_delay48", 504),
    ],
)
def test_the_name_shows_after_the_published_number_of_steps(level, steps):
    env, observed = disabled(4, levels=level)
    for t in range(steps):
        assert (observed["goal"][:, 0] == 1).all() and (observed["vector"][:, 24:] == 0).all()
        observed = env.step(np.full(4, t % 8))[0]
    assert (observed["goal"][:, 0] == 0).all() and (observed["goal"].sum(1) == 1).all()
    assert (observed["vector"][:, 24:] == 0).all(), "the action of the last watch frame is ignored"
    observed = env.step(np.full(4, N))[0]
    assert observed["vector"][:, 24:] == pytest.approx(np.array([[-0.2, 0]] * 4)), "the next one moves the agent"


def test_dancers_perform_in_turn_and_stand_still_between():
    env, observed = disabled(32, levels="4_delay16")
    dances, offsets = env.privileged()["ballet_dances"], scene.dance_offsets()
    assert (dances[:, 4:] == -1).all() and all(len(set(row[:4])) == 4 for row in dances.tolist())
    assert (observed["vector"][:, :8].sum(1) == 4).all()
    frames = [observed] + watch(env, 4 * 31 - 1)
    moved = np.stack([frame["vector"][:, 8:24].reshape(32, 2, 8) for frame in frames])
    performers = []
    for turn in range(4):
        part = moved[31 * turn : 31 * (turn + 1)]
        assert (part[15:] == 0).all(), "home after move 16, then 15 idle frames"
        spot = abs(part).sum((0, 2)).argmax(axis=1)
        performers.append(spot)
        shown = np.take_along_axis(part[:16], spot[None, :, None, None].repeat(2, 2), axis=3)[..., 0]
        assert np.array_equal(shown.transpose(1, 0, 2), offsets[dances[:, turn], 1:])
        assert (abs(part).sum((0, 2)) > 0).sum(1).tolist() == [1] * 32, "one at a time"
    assert all(len(set(row)) == 4 for row in np.stack(performers, 1).tolist())
    goal = env.step(np.zeros(32, np.int64))[0]["goal"].argmax(1) - 1
    target = env.privileged()["ballet_target"]
    for row in range(32):
        spot = performers[dances[row].tolist().index(goal[row])][row]
        cells = [(r, c) for r in (2, 5, 8) for c in (2, 5, 8) if (r, c) != (5, 5)]
        assert cells[spot] == tuple(target[row])


def finish(env, observed, choose):
    """Play until every row has ended; return the returns (N,) and success (N,)."""
    total, success = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for _ in range(1100):
        observed, reward, terminated, truncated, info = env.step(choose(observed))
        total += reward
        success |= info.get("success", False)
        if (terminated | truncated).all():
            return total, success
    raise AssertionError("episodes did not end")


@pytest.mark.parametrize("levels", [["2_delay16", "4_delay16", "8_delay16"], "8_delay48"])
def test_the_oracle_earns_one(levels):
    env, observed = disabled(1000 if isinstance(levels, list) else 50, levels=levels)
    oracle = BalletOracle()
    total, success = finish(env, observed, lambda seen: oracle.act(seen, {}, None, env.privileged())[0])
    assert success.all() and (total == 1).all()


@pytest.mark.parametrize(("n", "delay"), [(2, 1), (4, 2), (8, 1)])
def test_walking_to_any_dancer_is_at_chance(n, delay):
    env, observed = disabled(2000, levels=f"{n}_delay{delay}")
    cells = np.array([(r, c) for r in (2, 5, 8) for c in (2, 5, 8) if (r, c) != (5, 5)])
    present = observed["vector"][:, :8]
    spot = (np.random.default_rng(0).random((2000, 8)) + present).argmax(1)
    move = {(-1, -1): NW, (-1, 0): N, (-1, 1): NE, (0, -1): W, (0, 1): E, (1, -1): SW, (1, 0): S, (1, 1): SE}
    action = np.array([move[tuple(way)] for way in np.sign(cells[spot] - 5).tolist()])
    total, success = finish(env, observed, lambda seen: action)
    assert total.mean() == pytest.approx(1 / n, abs=3 * np.sqrt((n - 1) / n**2 / 2000))
    assert np.array_equal(total, success)


def test_walls_stop_and_time_runs_out_without_reward():
    env, _ = disabled(400, levels="2_delay1", max_steps=60)
    watch(env, 32)
    ended = np.zeros(400, bool)
    for _ in range(28):
        # Column 5 meets no spot of the middle row; north of the middle lies spot (2, 5).
        observed, reward, terminated, truncated, _ = env.step(np.full(400, N))
        assert not (terminated & truncated).any() and not (reward[~terminated] > 0).any()
        ended |= terminated
    assert truncated[~ended].all() and not truncated[ended].any()
    assert (observed["vector"][~ended, 24] == np.float32(-0.8)).all(), "row 1 is the last one before the wall"
    north = env.privileged()["ballet_dances"]
    assert 0.15 < ended.mean() < 0.35 and north.shape == (400, 8), "2 of 8 spots are taken"


def test_default_limits_are_the_sources():
    for level, limit in (("2_delay16", 320), ("2_delay48", 1024)):
        env, _ = disabled(64, levels=level)
        for step in range(1, limit + 1):
            # To and fro: never onto a dancer of the middle.
            _, _, terminated, truncated, _ = env.step(np.full(64, NE if step % 2 else SW))
            assert not terminated.any() and truncated.all() == (step == limit)


def test_pictures_show_wall_agent_and_dancers_where_the_symbols_say():
    pixels, observed = disabled(40, levels="4_delay16", obs="pixels")
    symbols, told = disabled(40, levels="4_delay16")
    palette = {tuple(colour) for colour in scene.colours().tolist()}
    assert len(palette) == 19 and len({mask.tobytes() for mask in scene.shapes()}) == 15
    for t in range(124):
        if t % 5 == 0:
            cells = observed["rgb"].reshape(40, 11, 9, 11, 9, 3)
            assert (cells[:, 0] == 40).all() and (cells[:, :, :, 10] == 40).all() and (cells[:, 5, :, 5] == 255).all()
            lit = cells[:, 1:-1, :, 1:-1].any(axis=(2, 4, 5))
            expected = np.zeros((40, 9, 9), bool)
            expected[:, 4, 4] = True
            vector = told["vector"].astype(int)
            for row, s in zip(*np.nonzero(vector[:, :8])):
                r, c = [(r, c) for r in (2, 5, 8) for c in (2, 5, 8) if (r, c) != (5, 5)][s]
                expected[row, r + vector[row, 8 + s] - 1, c + vector[row, 16 + s] - 1] = True
            assert np.array_equal(lit, expected)
            assert all(decode_text(text) == "watch" for text in observed["instruction"])
        observed, told = pixels.step(np.full(40, N))[0], symbols.step(np.full(40, N))[0]
    names = ["watch", *scene.DANCES]
    shown = [decode_text(text) for text in observed["instruction"]]
    assert shown == [names[k] for k in told["goal"].argmax(1)]
    colours = np.unique(observed["rgb"].reshape(40, -1, 3)[0], axis=0).tolist()
    assert len({tuple(c) for c in colours} & palette) == 4, "four dancers, four colours"
    moved = pixels.step(np.full(40, NW))[0]["rgb"].reshape(40, 11, 9, 11, 9, 3)
    assert (moved[:, 0] == 0).all() and (moved[:, 1, :, 1:] == 40).all(), "the view goes with the agent"
    assert (moved[:, 5, :, 5] == 255).all()


def test_levels_are_mixed_evenly_and_looks_tell_nothing():
    env, observed = disabled(3000, levels=["2_delay16", "4_delay16", "8_delay16"])
    count = observed["vector"][:, :8].sum(1)
    assert [np.mean(count == n) for n in (2, 4, 8)] == pytest.approx([1 / 3] * 3, abs=0.03)
    target = env.privileged()["ballet_target"]
    assert [np.mean((target == cell).all(1)) for cell in ([2, 2], [5, 8], [8, 5])] == pytest.approx(
        [1 / 8] * 3, abs=0.02
    )


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"levels": "9_delay16"}, "9_delay16"),
        ({"levels": "2_delay0"}, "2_delay0"),
        ({"levels": []}, "at least one level"),
        ({"obs": "text"}, "'symbolic' or 'pixels'"),
        ({"levels": "4_delay16", "max_steps": 124}, "max_steps beyond the dances of 4_delay16, got 124"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("Ballet-v0", 1, **kwargs)
