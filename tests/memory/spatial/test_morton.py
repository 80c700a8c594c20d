"""Morton codes: exact round trip, octree order, parents."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial import morton


@pytest.mark.parametrize("depth", range(1, morton.MAX_DEPTH + 1))
def test_decode_is_the_inverse_of_encode(depth):
    cells = torch.randint(1 << depth, (100_000, 3), generator=torch.Generator().manual_seed(depth))
    codes = morton.encode(cells)
    assert torch.equal(morton.decode(codes), cells)
    assert (codes >= 0).all() and int(codes.max()) < 1 << (3 * depth)


def test_order_is_depth_first_and_parents_contain_their_children():
    side = torch.arange(8)
    cells = torch.cartesian_prod(side, side, side)

    def visit(corner, size):
        if size == 1:
            return [corner]
        half = size // 2
        order = [(x, y, z) for z in (0, half) for y in (0, half) for x in (0, half)]
        return [leaf for step in order for leaf in visit(tuple(a + b for a, b in zip(corner, step)), half)]

    by_code = cells[morton.encode(cells).argsort()]
    assert by_code.tolist() == [list(leaf) for leaf in visit((0, 0, 0), 8)]
    codes = morton.encode(cells)
    for levels in (1, 2, 3):
        assert torch.equal(morton.decode(morton.parent(codes, levels)), cells >> levels)
        first, last = morton.children(morton.parent(codes, levels), levels)
        assert ((first <= codes) & (codes < last)).all()


def test_points_fall_into_centred_cells_and_outside_is_said():
    points = torch.tensor([[0.0, 0, 0], [0.2499, 0, -0.2499], [0.2501, 0, 0], [100.0, 0, 0], [float("nan"), 0, 0]])
    cells, inside = morton.cells_of(points, 0.5, 4)
    assert cells[:3].tolist() == [[8, 8, 8], [8, 8, 8], [9, 8, 8]]
    assert inside.tolist() == [True, True, True, False, False]
    assert torch.allclose(morton.centres_of(cells[2:3], 0.5, 4), torch.tensor([[0.5, 0, 0]]).double())
    with pytest.raises(UsageError, match=r"depth in \[1, 21\], got 22"):
        morton.check_depth(22)
