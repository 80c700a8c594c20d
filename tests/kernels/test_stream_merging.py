"""Weighted k-means and the merge of nearest pairs: against their equations, and what a stream keeps."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.kernels import merge_nearest, merging_set, weighted_kmeans


def draw(B=2, T=30, D=5):
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, T, D, generator=g).double(), torch.rand(B, T, generator=g).double()


def test_clusters_equal_the_plain_loop():
    x, w = draw()
    init, reseed = torch.tensor([[0, 3, 7, 3], [1, 2, 3, 4]]), torch.tensor([[9, 8], [9, 8]])
    found = weighted_kmeans(x, w, init, iters=4, reseed=reseed)
    for b in range(2):
        c = x[b, init[b]].clone()
        for _ in range(4):
            labels = torch.stack([(row - c).square().sum(1).argmin() for row in x[b]])
            spare = iter(reseed[b].tolist())
            for j in range(4):
                own = labels == j
                c[j] = (w[b, own, None] * x[b, own]).sum(0) / w[b, own].sum() if own.any() else x[b, next(spare)]
        labels = torch.stack([(row - c).square().sum(1).argmin() for row in x[b]])
        assert torch.equal(found.labels[b], labels)
        torch.testing.assert_close(found.centroids[b], c)
        torch.testing.assert_close(found.weight[b], torch.stack([w[b, labels == j].sum() for j in range(4)]))


def test_clusters_of_all_rows_are_the_rows():
    x, w = draw(T=6)
    found = weighted_kmeans(x, w, torch.arange(6).expand(2, 6))
    assert torch.equal(found.labels, torch.arange(6).expand(2, 6))
    torch.testing.assert_close(found.centroids, x)
    assert torch.equal(found.weight, w)


def test_equal_rows_and_weights_of_zero_give_finite_clusters():
    x = torch.ones(1, 5, 3)
    found = weighted_kmeans(x, torch.zeros(1, 5), torch.tensor([[0, 1, 2]]), reseed=torch.tensor([[4]]))
    assert torch.isfinite(found.centroids).all() and not found.weight.any() and not found.labels.any()


def test_clusters_stop_where_nothing_moves():
    x, w = draw()
    init = torch.tensor([[0, 1, 2]] * 2)
    exact, early = (weighted_kmeans(x, w, init, iters=100, tol=tol) for tol in (None, 0.0))
    assert torch.equal(exact.centroids, early.centroids) and torch.equal(exact.labels, early.labels)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_merging_equals_the_plain_search(alpha):
    g = torch.Generator().manual_seed(1)
    B, S, D = 3, 5, 4
    held = merging_set(B, S, D, dtype=torch.float64)
    plain = [[] for _ in range(B)]
    for step in range(14):
        x, w = torch.randn(B, D, generator=g).double(), 0.5 + torch.rand(B, generator=g).double()
        skip = torch.tensor([False, step == 8, False])
        held = merge_nearest(held, x, torch.full((B,), float(step)), weight=w, alpha=alpha, keep=skip)
        for b in range(B):
            if skip[b]:
                continue
            plain[b].append((x[b], w[b], torch.tensor(float(step)).double()))
            if len(plain[b]) > S:
                pairs = [(i, j) for i in range(S + 1) for j in range(i + 1, S + 1)]
                costs = []
                for i, j in pairs:
                    (x_i, w_i, _), (x_j, w_j, _) = plain[b][i], plain[b][j]
                    costs.append(float((x_i - x_j).square().sum() * (w_i * w_j / (w_i + w_j)) ** alpha))
                i, j = pairs[costs.index(min(costs))]
                (x_i, w_i, t_i), (x_j, w_j, t_j) = plain[b][i], plain[b].pop(j)
                share = w_i / (w_i + w_j)
                plain[b][i] = share * x_i + (1 - share) * x_j, w_i + w_j, share * t_i + (1 - share) * t_j
            order = held.weight[b].masked_fill(held.weight[b] == 0, torch.inf).argsort()[: len(plain[b])]
            wanted = sorted(plain[b], key=lambda entry: float(entry[1]))
            torch.testing.assert_close(held.weight[b][order], torch.stack([entry[1] for entry in wanted]))
            torch.testing.assert_close(held.rows[b][order], torch.stack([entry[0] for entry in wanted]))
            torch.testing.assert_close(held.time[b][order], torch.stack([entry[2] for entry in wanted]))
    real = (held.rows.unsqueeze(1) - held.rows.unsqueeze(2)).square().sum(-1)
    torch.testing.assert_close(held.distance, real)


def test_a_stream_keeps_every_scene_and_all_weight():
    g = torch.Generator().manual_seed(2)
    lengths = (200, 100, 80, 60, 40, 20)
    centres = torch.randn(6, 64, generator=g)
    scene = torch.repeat_interleave(torch.arange(6), torch.tensor(lengths))
    held = merging_set(1, 12, 64)
    for t, s in enumerate(scene):
        x = centres[s] + 0.2 * torch.randn(64, generator=g)
        held = merge_nearest(held, x.unsqueeze(0), torch.full((1,), float(t)))
    owner = (held.rows[0].unsqueeze(1) - centres).square().sum(-1).argmin(1)
    assert set(owner.tolist()) == set(range(6)) and held.weight.sum().item() == 500
    last = torch.tensor(lengths).cumsum(0)
    assert ((held.time[0] >= (last - torch.tensor(lengths))[owner]) & (held.time[0] < last[owner])).all()


def test_both_compile_whole():
    x, w = draw()
    init = torch.tensor([[0, 3, 7]] * 2)
    torch._dynamo.reset()
    compiled = torch.compile(weighted_kmeans, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, w, init).centroids, weighted_kmeans(x, w, init).centroids)
    compiled = torch.compile(merge_nearest, fullgraph=True, backend="aot_eager")
    held = merging_set(2, 3, 5, dtype=torch.float64)
    found = wanted = held
    for t in range(4):
        time = torch.full((2,), float(t))
        found, wanted = compiled(found, x[:, t], time), merge_nearest(wanted, x[:, t], time)
    torch.testing.assert_close(found.rows, wanted.rows)


def test_wrong_arguments_are_named():
    x, w = draw()
    with pytest.raises(ValueError, match=r"init \(B, K\)"):
        weighted_kmeans(x, w, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="reseed"):
        weighted_kmeans(x, w, torch.tensor([[0], [1]]), reseed=torch.tensor([0]))
    with pytest.raises(UsageError, match="slots >= 2"):
        merging_set(1, 1, 4)
    with pytest.raises(ValueError, match="expected x"):
        merge_nearest(merging_set(2, 3, 4), torch.zeros(2, 5), torch.zeros(2))
