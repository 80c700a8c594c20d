"""The ring of the last entries, addressed by age."""

import torch

from embodied_mem.memory.window_memory import Window, visible_softmax


def window():
    """Slots of a ring of 4 that holds the entries 3 .. 6; two queries of a row that see 4 and 2 of them."""
    items = torch.tensor([[[4.0], [5.0], [6.0], [3.0]]])
    place = torch.tensor([[[2, 1, 0, 3], [2, 1, 0, 3]]])
    visible = torch.tensor([[[True, True, True, True], [True, True, False, False]]])
    return Window(items, place, visible)


def test_scores_are_turned_to_ages():
    products = torch.tensor([[[[40.0, 50.0, 60.0, 30.0]] * 2]])
    assert window().scores(products).tolist() == [[[[60.0, 50.0, 40.0, 30.0]] * 2]]


def test_entries_are_mixed_by_weights_of_ages():
    weights = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]]])
    assert window().mix(weights).tolist() == [[[[6.0], [5.5]]]]


def test_gathered_entries_are_latest_first_and_zero_where_there_is_none():
    assert window().gathered().squeeze(-1).tolist() == [[[6.0, 5.0, 4.0, 3.0], [6.0, 5.0, 0.0, 0.0]]]


def test_softmax_over_nothing_is_nothing_with_a_finite_gradient():
    scores = torch.tensor([[1.0, 2.0], [3.0, float("nan")]], requires_grad=True)
    visible = torch.tensor([[True, True], [False, False]])
    for null_slot in (True, False):
        weights = visible_softmax(scores, visible, null_slot)
        assert not weights[1].any()
        (gradient,) = torch.autograd.grad(weights[:, 0].sum(), scores)
        assert not gradient[1].any()
    assert torch.allclose(visible_softmax(scores, visible, False)[0], scores[0].softmax(-1))
    assert visible_softmax(scores, visible, True)[0].sum() < 1
