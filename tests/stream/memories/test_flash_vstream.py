"""Flash memory: no scene of a long stream is lost, weights count frames, details belong to their clusters."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.flash_vstream import abstract_write, total_weight, weighted_kmeans

LENGTHS = [200, 100, 80, 60, 40, 20]


@pytest.fixture(scope="module", params=[LENGTHS, LENGTHS[::-1]], ids=["long first", "short first"])
def six(request, Scenes):
    stream = Scenes(request.param, tokens=4, width=64, noise=0.2 * 8, seed=1)
    # centres in R^64 of unit variance, as the noise is per number
    stream.tokens += 7 * stream.centres[stream.scene][:, None]
    return stream


def per_scene(stream, clusters):
    starts = [stream.times[stream.scene == k][0] for k in range(6)]
    return np.bincount([np.searchsorted(starts, e.t, side="right") - 1 for e in clusters], minlength=6)


def test_every_scene_of_a_long_stream_keeps_a_cluster(six, make):
    memory, sizes = make("flash_vstream", csm_slots=12, pool=1), []
    for index in range(len(six)):
        six.write(memory, index, index + 1)
        if index in (199, len(six) - 1):
            sizes.append(memory.nbytes())
        assert total_weight(memory.stores["synopsis"]) == index + 1
    clusters = sorted(memory.snapshot().stores["synopsis"], key=lambda e: e.t)
    assert len(clusters) == 12 and sizes[0] == sizes[1]
    assert (per_scene(six, clusters) >= 1).all()
    for cluster in clusters:
        inside = six.scene[(six.times >= cluster.t0) & (six.times <= cluster.t1)]
        assert len(set(inside)) == 1 and cluster.t0 <= cluster.t <= cluster.t1


@pytest.mark.full
def test_published_kmeans_forgets_and_merging_does_not(six, make):
    published = six.write(make("flash_vstream", csm_slots=12, pool=1, rule="kmeans"))
    assert (per_scene(six, published.snapshot().stores["synopsis"]) == 0).any()
    assert total_weight(published.stores["synopsis"]) == pytest.approx(500)


def test_alpha_moves_slots_between_recency_and_age(Scenes, make):
    stream = Scenes(LENGTHS, tokens=4, width=64, noise=1.6, seed=2)
    stream.tokens += 7 * stream.centres[stream.scene][:, None]
    counts = [
        per_scene(stream, stream.write(make("flash_vstream", csm_slots=12, pool=1, alpha=a)).stores["synopsis"])
        for a in (0.0, 0.5, 1.0)
    ]
    assert counts[0][-1] > counts[1][-1] >= counts[2][-1] and counts[0][0] <= counts[1][0] < counts[2][0]


def test_details_belong_to_the_scene_of_their_cluster(six, make):
    memory = make("flash_vstream", csm_slots=12, dam_slots=6, pool=2)
    clean = six.centres[six.scene][:, None].repeat(4, 1)
    for tokens, t, image in zip(clean, six.times, six.frames):
        memory.write(tokens, t, image)
    scene_at = dict(zip(six.times, six.scene))
    for cluster, frame in zip(memory.stores["synopsis"], memory.stores["detail"]):
        assert scene_at[frame.t] in {scene_at[cluster.t0], scene_at[cluster.t1]}
        assert frame.tokens.shape == (4, 64) and cluster.tokens.shape == (2, 64)
    for k in range(6):
        shown = memory.read(six.centres[k], budget=20).frames
        assert shown and scene_at[max(shown, key=lambda f: scene_at[f.t_s] == k).t_s] == k


def test_details_are_the_frames_nearest_to_the_merged_cluster(make):
    memory = make("flash_vstream", csm_slots=2, pool=1, alpha=0.0)
    for t, value in enumerate([0.0, 1.0, 10.0, 0.6, 0.5]):
        memory.write(np.full((1, 1), value), t, np.full((1, 1, 3), t, np.uint8))
    cluster, frame = next(
        pair for pair in zip(memory.stores["synopsis"], memory.stores["detail"]) if pair[0].weight > 1
    )
    assert cluster.weight == 4 and cluster.tokens.item() == pytest.approx(0.525) and frame.t == 4
    assert (cluster.t0, cluster.t1, cluster.t) == (0, 4, pytest.approx(8 / 4))


@pytest.mark.parametrize("rule", ["adjacent_merge", "adjacent_drop", "pair_merge", "pair_drop", "kmeans"])
def test_published_rules_keep_the_size(rule, stream, make):
    memory = stream.write(make("flash_vstream", csm_slots=7, rule=rule), 0, 60)
    assert len(memory.stores["synopsis"]) == len(memory.stores["detail"]) <= 7
    assert memory.nbytes() <= memory.bound_bytes(3, 8, stream.frames[0].nbytes)
    if rule.endswith("drop"):
        assert all(e.weight == 1 for e in memory.stores["synopsis"])
    elif rule != "kmeans":
        assert total_weight(memory.stores["synopsis"]) == 60


def test_adjacent_rules_join_neighbours_only(make):
    merged, dropped = make("flash_vstream", csm_slots=3, pool=1, rule="adjacent_merge"), None
    dropped = make("flash_vstream", csm_slots=3, pool=1, rule="adjacent_drop")
    for t, value in enumerate([0.0, 5.0, 0.0, 2.0]):
        merged.write(np.full((1, 1), value), t)
        dropped.write(np.full((1, 1), value), t)
    assert sorted((e.t, e.tokens.item()) for e in merged.stores["synopsis"]) == [(0, 0), (1, 5), (2.5, 1)]
    assert sorted(e.t for e in dropped.stores["synopsis"]) == [0, 1, 3]


def test_kmeans_of_few_rows_is_the_identity_and_duplicates_do_no_harm():
    rows = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    draw = np.random.default_rng(1)
    assert weighted_kmeans(rows, np.ones(5), 5, draw).tolist() == [0, 1, 2, 3, 4]
    doubled = np.repeat(rows[:2], 6, axis=0)
    labels = weighted_kmeans(doubled, np.arange(1.0, 13), 4, draw)
    assert len(set(labels[:6])) == 1 and len(set(labels[6:])) == 1 and labels[0] != labels[6]


def test_an_abstract_write_of_one_token_is_exact():
    draw = np.random.default_rng(0)
    memory, token, ask = (draw.standard_normal(s).astype(np.float32) for s in ((5, 8), (1, 8), (2, 8, 32)))
    after = abstract_write(memory, token, ask, 0.2)
    assert np.array_equal(after, np.float32(0.8) * memory + np.float32(0.2) * token)


def test_same_stream_same_bits(stream, make):
    for rule in ("pairwise", "kmeans"):
        config = {"csm_slots": 7, "rule": rule, "abstract": 3}
        first, second = (stream.write(make("flash_vstream", **config), 0, 50) for _ in range(2))
        assert first.read().tokens.equal(second.read().tokens)


def test_wrong_sizes_are_refused(make):
    for config in ({"csm_slots": 1}, {"alpha": -1.0}, {"ratio": 1.5}, {"rule": "median"}):
        with pytest.raises(UsageError, match="expected"):
            make("flash_vstream", **config)
