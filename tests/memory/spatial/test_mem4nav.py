"""The acceptance checks of Mem4Nav, each of which the published code fails. Planning is in test_topology, codes are
in test_morton, street figures in tests/metrics/test_street.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.long_term import LongTermMemory
from embodied_mem.memory.spatial.mem4nav import Mem4Nav
from embodied_mem.memory.spatial.reversible import ReversibleStack
from embodied_mem.memory.spatial.search import ExactSearch, make_search
from embodied_mem.memory.spatial.short_term import ShortTermMemory
from embodied_mem.memory.spatial.topology import TopologyConfig, TopologyGraph

HERE = torch.zeros(3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype,limit", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_stack_is_inverted_in_training_and_evaluation(training, dtype, limit):
    torch.manual_seed(0)
    stack = ReversibleStack(384).to(dtype).train(training)
    x = torch.randn(8, 768, dtype=dtype)
    with torch.no_grad():
        y = stack(x)
        assert (stack.inverse(y) - x).abs().max() < limit
        with torch.autocast("cpu", torch.bfloat16):
            assert (stack.inverse(stack(x)) - x).abs().max() < limit
    assert (y - x).abs().max() > 0.1


def test_the_halves_depend_on_each_other_and_bad_widths_are_refused():
    torch.manual_seed(0)
    stack = ReversibleStack(32, blocks=2)
    x = torch.randn(1, 64, requires_grad=True)
    for half in stack(x).chunk(2, -1):
        (gradient,) = torch.autograd.grad(half.square().sum(), x, retain_graph=True)
        assert all(part.any() for part in gradient.chunk(2, -1))
    with pytest.raises(UsageError, match="two halves of 32"):
        stack(torch.zeros(1, 32))
    with pytest.raises(UsageError, match="divisible by pieces"):
        ReversibleStack(30)


def chains(mode="exact", dim=64, **options):
    torch.manual_seed(0)
    return LongTermMemory(dim, mode, heads=2, pieces=4, **options)


def test_all_32_writes_of_a_chain_decode_and_the_first_one_counts():
    values = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    found = []
    for first in (values[0], values[0] + 10):
        memory = chains()
        for value in (first, *values[1:]):
            memory.write(("leaf", 5), value, HERE)
        found.append(memory.read(("leaf", 5)))
    assert found[0].shape == (32, 64)
    assert (found[0] - values.flip(0)).abs().max() < 1e-4
    assert (found[1][31] - found[0][31] - 10).abs().max() < 1e-3


def test_a_ring_shorter_than_the_chain_keeps_the_latest():
    memory = chains(chain=4)
    values = torch.randn(11, 64, generator=torch.Generator().manual_seed(1))
    for value in values:
        memory.write(("leaf", 5), value, HERE)
    assert torch.allclose(memory.read(("leaf", 5)), values[-4:].flip(0), atol=1e-4)
    assert torch.allclose(memory.read(("leaf", 5), 1), values[-1:], atol=1e-5)


def test_kinds_of_keys_do_not_collide_unknown_keys_are_empty_and_the_oldest_gives_way():
    memory = chains(capacity=2)
    one, two, three = torch.randn(3, 64)
    memory.write(("leaf", 1), one, HERE)
    memory.write(("node", 1), two, HERE)
    assert torch.allclose(memory.read(("leaf", 1))[0], one, atol=1e-5)
    assert memory.read(("leaf", 2)).shape == (0, 64)
    memory.write(("leaf", 2), three, HERE)
    assert len(memory) == 2 and memory.read(("leaf", 1)).shape == (0, 64)
    assert torch.allclose(memory.read(("leaf", 2)), three.unsqueeze(0), atol=1e-5)
    assert memory.search(one, HERE).keys[0] != ("leaf", 1)


def test_compressed_tokens_have_a_fixed_size_and_an_error_that_training_lowers():
    memory = chains("compressed", dim=16, chain=4, blocks=1)
    generator = torch.Generator().manual_seed(2)
    # chains of a few latent numbers: what a token can hold
    draw = lambda: torch.randn(32, 3, 2, generator=generator) @ basis  # noqa: E731
    basis = torch.randn(2, 16, generator=generator)
    test = draw()
    before = memory.error_by_age(test)
    optimiser = torch.optim.Adam(memory.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        memory.cycle_loss(draw()).backward()
        optimiser.step()
    after = memory.error_by_age(test)
    assert before[0] < 1e-5 and after[0] < 1e-5
    assert after[1] < 0.6 * before[1] and after[1:].max() < 0.8
    for value in test[0]:
        memory.write(("leaf", 0), value, HERE)
        size = memory.nbytes()
    found = memory.read(("leaf", 0))
    assert found.shape == (3, 16) and torch.allclose(found[0], test[0, -1], atol=1e-4)
    memory.write(("leaf", 0), test[0, 0], HERE)
    assert memory.nbytes() == size
    with pytest.raises(UsageError, match="mode 'compressed'"):
        chains().cycle_loss(torch.zeros(1, 2, 64))


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_search_equals_brute_force_and_never_finds_a_stale_version(kind):
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    generator = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(2000, 768, generator=generator), torch.randn(50, 768, generator=generator)
    index = make_search(kind, 768)
    index.sync(vectors, torch.ones(2000, dtype=torch.int64))
    found, apart = index.query(queries, 3)
    want = torch.cdist(queries, vectors).square().topk(3, largest=False)
    recall = (found.unsqueeze(2) == want.indices.unsqueeze(1)).any(1).float().mean()
    assert recall >= 0.95 and (apart[:, 1:] >= apart[:, :-1]).all()
    index = make_search(kind, 8)
    table, versions = torch.zeros(10, 8), torch.zeros(10, dtype=torch.int64)
    for step in range(1000):
        table[step % 10] = torch.randn(8, generator=generator)
        versions[step % 10] = step + 1
        index.sync(table, versions)
    assert len(index) == 10
    rows, apart = index.query(table, 3)
    assert rows[:, 0].tolist() == list(range(10)) and float(apart[:, 0].max()) < 1e-4
    anew = make_search(kind, 8)
    anew.sync(table, versions)
    assert torch.equal(anew.query(table, 3)[0], rows)
    versions[4] = 0
    index.sync(table, versions)
    assert len(index) == 9 and 4 not in index.query(table, 9)[0].flatten().tolist()
    rows, apart = index.query(table[:1], 12)
    assert rows[0, 9:].tolist() == [-1] * 3 and apart[0, 9:].isinf().all()
    versions[4] = 2000
    index.sync(table, versions)
    assert index.query(table[4:5], 1)[0].item() == 4


def test_an_empty_index_and_unknown_searches():
    rows, apart = ExactSearch(4).query(torch.zeros(2, 4), 3)
    assert (rows == -1).all() and apart.isinf().all()
    with pytest.raises(UsageError, match="'exact' or 'hnsw', got 'faiss'"):
        make_search("faiss", 3)


def test_eviction_weighs_frequency_against_age():
    short = ShortTermMemory(dim=2, entries=2, frequency=0.5, top=1)
    state = short.initial_state(1)
    one, at = torch.ones(1, 2), torch.zeros(1, 3)
    for key in (7, 7, 7, 8):
        _, state = short.write(torch.tensor([key]), one, at, state)
    # at t = 4: key 7 scores (3 - 2) / 2, key 8 scores (1 - 1) / 2
    _, state = short.write(torch.tensor([9]), one, at, state)
    assert sorted(state["key"][0].tolist()) == [7, 9]
    # key 9 again at t = 5; at t = 6 key 7 scores (3 - 4) / 2, key 9 scores (2 - 1) / 2
    _, state = short.write(torch.tensor([9]), one, at, state)
    _, state = short.write(torch.tensor([6]), one, at, state)
    assert sorted(state["key"][0].tolist()) == [6, 9]


def test_rebasing_there_and_back_leaves_what_is_read_unchanged():
    generator = torch.Generator().manual_seed(0)
    short = ShortTermMemory(dim=4, entries=8, eps=3.0)
    state = short.initial_state(2)
    for key in range(12):
        value, place = torch.randn(2, 4, generator=generator), torch.randn(2, 3, generator=generator) * 2
        _, state = short.write(torch.full((2,), key), value, place, state)
    a, b = torch.randn(2, 3, generator=generator) * 50, torch.randn(2, 3, generator=generator) * 50
    query, at = torch.randn(2, 4, generator=generator), torch.randn(2, 3, generator=generator)
    before = short.read(query, at, state)
    moved = short.rebase(a, b, state)
    # the same world place, seen from the other node
    during = short.read(query, at.double() + a.double() - b.double(), moved)
    after = short.read(query, at, short.rebase(b, a, moved))
    for found in (during, after):
        assert torch.equal(found.entry, before.entry) and torch.equal(found.cosine, before.cosine)


def test_reset_empties_one_row_and_an_empty_list_says_so():
    short = ShortTermMemory(dim=2, entries=4, top=2)
    found = short.read(torch.ones(1, 2), torch.zeros(1, 3), short.initial_state(1))
    assert found.entry.tolist() == [[-1, -1]] and found.cosine.isinf().all() and not found.value.any()
    _, state = short.write(torch.tensor([1, 1]), torch.ones(2, 2), torch.zeros(2, 3), short.initial_state(2))
    _, state = short.write(
        torch.tensor([2, 2]), torch.ones(2, 2), torch.zeros(2, 3), state, torch.tensor([True, False])
    )
    assert (state["key"] >= 0).sum(1).tolist() == [1, 2]


def agent(dim=8, **options):
    torch.manual_seed(0)
    graph = TopologyGraph(TopologyConfig(dim=dim, nodes=16))
    return Mem4Nav(graph, ShortTermMemory(dim), LongTermMemory(dim, heads=1, pieces=2, blocks=2), **options)


@pytest.mark.parametrize("cosine,source", [(0.699, "long"), (0.701, "short")])
def test_the_threshold_decides_which_memory_answers(cosine, source):
    memory = agent()
    stored = torch.eye(8)[0]
    memory.observe(stored, HERE)
    query = cosine * stored + (1 - cosine**2) ** 0.5 * torch.eye(8)[1]
    answer = memory.recall(query, HERE)
    assert answer.source == source and answer.cosine == pytest.approx(cosine, abs=1e-5)
    assert torch.allclose(answer.values[0], stored, atol=1e-5)


def test_far_things_come_from_the_long_term_memory_and_an_empty_one_is_typed():
    memory = agent()
    answer = memory.recall(torch.ones(8), HERE)
    assert answer.source == "none" and answer.values.shape == (0, 8) and answer.places.shape == (0, 3)
    features, places = torch.eye(8), torch.arange(8.0).unsqueeze(1) * torch.tensor([10.0, 0, 0])
    for _ in range(3):
        for node in range(8):
            assert memory.observe(features[node], places[node]) == node
    near = memory.recall(features[7], places[7])
    assert near.source == "short" and torch.allclose(near.places[0], places[7].double(), atol=1e-4)
    far = memory.recall(features[2], places[7])
    assert far.source == "long" and torch.allclose(far.values[0], features[2], atol=1e-4)
    assert torch.allclose(far.places[0], places[2].double())
    assert memory.plan(5)[0] == 7 and memory.plan(5)[-1] == 5
    memory.reset()
    assert memory.recall(features[2], places[2]).source == "none"
