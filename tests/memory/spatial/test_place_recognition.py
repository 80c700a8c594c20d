"""Places are recognised under other light and another crop; sequences and regions help; loops are proposed."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.place_recognition import (
    EmbeddingRecogniser,
    SequenceMatching,
    match_sequence,
    propose_loop,
    recall_at,
)
from embodied_mem.memory.spatial.spiking_places import SpikingConfig, SpikingPlaces
from embodied_mem.memory.spatial.topology import TopologyConfig, TopologyGraph

PLACES = 100


def traverses(places=PLACES, noise=0.15, seed=0):
    """Smooth random pictures of places, and the same places in other light, moved, cropped and noisy."""
    generator = torch.Generator().manual_seed(seed)
    world = torch.rand(places, 1, 28, 28, generator=generator)
    world = torch.nn.functional.avg_pool2d(world, 5, 1, 2)[:, 0]
    world = (world - world.mean()) * 3 + 0.5
    light = 0.6 + 0.8 * torch.rand(places, 1, 1, generator=generator)
    again = torch.roll(world * light + 0.2, (1, 1), (1, 2)) + noise * torch.randn(world.shape, generator=generator)
    return world[:, 2:-2, 2:-2], again[:, 2:-2, 2:-2]


def taught(recogniser, images):
    for number, image in enumerate(images):
        assert recogniser.add(image) == number
    return recogniser


def sequences(scores, length):
    return torch.stack([match_sequence(scores[max(0, t + 1 - length) : t + 1]) for t in range(len(scores))])


@pytest.fixture(scope="module")
def scores():
    reference, again = traverses()
    methods = {
        "modular": SpikingPlaces(SpikingConfig()),
        "monolithic": SpikingPlaces(SpikingConfig(region=PLACES, neurons=400)),
    }
    found = {name: taught(method, reference).query_many(again) for name, method in methods.items()}
    # the baseline sees the same pictures through much more noise, else it would make no mistake
    reference, again = traverses(noise=0.6)
    baseline = taught(EmbeddingRecogniser(), reference)
    found["embedding"] = torch.stack([baseline.query(image) for image in again])
    return found, methods


def test_modules_with_regularisation_beat_one_network_of_equal_size(scores):
    found, _ = scores
    truth = torch.arange(PLACES)
    modular, monolithic = (recall_at(found[name], truth) for name in ("modular", "monolithic"))
    assert modular > monolithic and modular > 0.6
    assert recall_at(found["modular"], truth, 5) > modular


@pytest.mark.parametrize("name", ["modular", "monolithic", "embedding"])
def test_sequences_of_ten_beat_single_queries_for_every_method(scores, name):
    single, joined = (recall_at(sequences(scores[0][name], length), torch.arange(PLACES)) for length in (1, 10))
    assert 0.1 < single < joined


def test_masked_neurons_never_exceed_the_stated_share(scores):
    _, methods = scores
    masked = methods["modular"].masked
    assert masked.shape == (10, 40) and masked.any() and (masked.float().mean(1) <= 0.3).all()
    assert not methods["monolithic"].masked.any()
    reference, _ = traverses(20)
    assert not taught(SpikingPlaces(SpikingConfig(most_masked=0.0, epochs=1)), reference).masked.any()


def test_work_of_a_query_grows_linearly_with_modules():
    reference, again = traverses(10)
    flops = []
    for ensemble in (1, 2, 4):
        method = taught(SpikingPlaces(SpikingConfig(ensemble=ensemble, epochs=1)), reference)
        method.query(again[0])
        with FlopCounterMode(display=False) as counter:
            method.query(again[0])
        flops.append(counter.get_total_flops())
    assert flops[1] == 2 * flops[0] and flops[2] == 4 * flops[0] > 0


def test_a_last_short_region_and_new_places_are_learnt():
    reference, _ = traverses(14)
    method = taught(SpikingPlaces(SpikingConfig(region=10, epochs=4)), reference[:13])
    assert method.query_many(reference[:13]).shape == (13, 13)
    method.add(reference[13])
    assert recall_at(method.query_many(reference), torch.arange(14)) > 0.8
    assert SpikingPlaces().query(reference[0]).shape == (0,)


def test_matching_follows_the_speed_of_the_traverse():
    scores = torch.full((5, 30), 0.0)
    for back in range(5):
        scores[4 - back, 20 - 2 * back] = 1.0
    scores[4, 7] = 1.2
    assert int(match_sequence(scores[4:]).argmax()) == 7
    assert int(match_sequence(scores, (1.0,)).argmax()) not in (7, 20)
    assert int(match_sequence(scores, (1.0, 2.0)).argmax()) == 20


def test_the_wrapper_joins_the_last_queries_and_forgets_on_reset():
    reference, again = traverses(noise=0.6)
    baseline = EmbeddingRecogniser()
    wrapped = taught(SequenceMatching(baseline, length=4, velocities=(1.0,)), reference)
    singles = torch.stack([baseline.query(image) for image in again[:6]])
    for t in range(6):
        assert torch.allclose(wrapped.query(again[t]), match_sequence(singles[max(0, t - 3) : t + 1]))
    wrapped.reset()
    assert torch.allclose(wrapped.query(again[0]), match_sequence(singles[:1]))
    with pytest.raises(UsageError, match="length >= 1"):
        SequenceMatching(baseline, length=0)


def test_a_recognised_place_closes_a_loop_in_the_graph():
    reference, _ = traverses(8)
    # features that drift: novelty alone would make a ninth place of the first one
    graph, recogniser = TopologyGraph(TopologyConfig(dim=16, nodes=16)), EmbeddingRecogniser()
    features = torch.eye(16)
    state, nodes = graph.initial_state(1), []
    for k in range(9):
        angle = torch.tensor(k * torch.pi / 4)
        place = torch.stack([angle.sin(), torch.zeros(()), angle.cos()]).unsqueeze(0)
        visit, state = graph.advance(features[k : k + 1], place, state)
        image = reference[k % 8]
        loop = propose_loop(recogniser.query(image), 0.95, torch.tensor(nodes), recent=2)
        assert loop == (0 if k == 8 else -1)
        state = graph.propose(state, torch.tensor([loop]))
        recogniser.add(image)
        nodes.append(int(visit.node))
    path, _ = graph.plan(state, torch.tensor([1]))
    assert path[0, :4].tolist() == [8, 0, 1, -1]
    assert propose_loop(torch.zeros(0), 0.5) == -1


def test_bad_images_and_sizes_are_refused():
    with pytest.raises(UsageError, match="expected an image"):
        SpikingPlaces().add(torch.zeros(3))
    with pytest.raises(UsageError, match="divisible by patch"):
        SpikingConfig(side=10)
