"""What is particular to the chunk read and to the search: nothing visible, ties, too few matches."""

import pytest
import torch

from embodied_mem.kernels import hcam_read, topk_similarity


def test_nothing_visible_reads_zero():
    torch.manual_seed(0)
    query, detail = torch.randn(2, 3, 4), torch.randn(2, 3, 2, 4, requires_grad=True)
    summary, contents, code = torch.randn(2, 5, 4), torch.randn(2, 5, 6, 4), torch.randn(6, 4)
    visible = torch.zeros(2, 1, 5, dtype=torch.bool)
    assert not hcam_read(query, detail, summary, contents, code, visible, 3).any()
    visible[0, 0, 2] = True
    found = hcam_read(query, detail, summary, contents, code, visible, 3)
    assert found[0].any() and not found[1].any()
    found.sum().backward()
    assert torch.isfinite(detail.grad).all() and detail.grad[0].any() and not detail.grad[1].any()


def test_search_orders_equal_scores_by_index_and_pads():
    bank = torch.tensor([[1.0], [2.0], [1.0], [2.0], [1.0]])
    found = topk_similarity(torch.ones(1, 1), bank, 7)
    assert found.indices.tolist() == [[1, 3, 0, 2, 4, -1, -1]]
    assert found.score.tolist() == [[2.0, 2.0, 1.0, 1.0, 1.0, -torch.inf, -torch.inf]]
    assert topk_similarity(torch.ones(1, 1), bank, 4).indices.tolist() == [[1, 3, 0, 2]]


def test_filters_leave_out():
    bank, time = torch.ones(6, 2), torch.arange(6, dtype=torch.int32)
    q = torch.ones(2, 2)
    near = topk_similarity(q, bank, 3, time=time, now=torch.tensor([2, 5], dtype=torch.int32), apart=1)
    assert near.indices.tolist() == [[0, 4, 5], [0, 1, 2]]
    span = torch.tensor([[3, 4], [6, 9]], dtype=torch.int32)
    assert topk_similarity(q, bank, 3, time=time, span=span).indices.tolist() == [[3, 4, -1], [-1, -1, -1]]
    group = torch.tensor([[0], [1], [0], [1], [0], [1]], dtype=torch.int32)
    own = topk_similarity(q, bank, 2, group=group, q_group=torch.tensor([[1], [0]], dtype=torch.int32))
    assert own.indices.tolist() == [[1, 3], [0, 2]]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="got one without the other"):
        topk_similarity(torch.ones(1, 2), torch.ones(3, 2), 1, time=torch.zeros(3))
    with pytest.raises(ValueError, match=r"expected q \(Q, D\)"):
        topk_similarity(torch.ones(1, 2), torch.ones(3, 4), 1)
    with pytest.raises(ValueError, match="summary of shape"):
        hcam_read(
            torch.ones(1, 1, 2), torch.ones(1, 1, 1, 2), torch.ones(1, 3, 2), torch.ones(1, 4, 1, 2),
            torch.ones(1, 2), torch.ones(1, 1, 4, dtype=torch.bool), 1,
        )  # fmt: skip
