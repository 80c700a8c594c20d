import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.metrics.masks import boundary, boundary_accuracy, region_overlap, widened


def square(left, size=10, side=40):
    mask = np.zeros((side, side), bool)
    mask[10 : 10 + size, left : left + size] = True
    return mask


def test_overlap_of_masks():
    assert region_overlap(square(5), square(5)) == 1.0 == region_overlap(square(0) & False, square(0) & False)
    assert region_overlap(square(5), square(10)) == pytest.approx(50 / 150)
    assert region_overlap(square(0), square(20)) == 0.0


def test_boundaries_may_be_off_by_the_tolerance():
    assert boundary_accuracy(square(5), square(6), tolerance=1) == 1.0
    assert 0.4 < boundary_accuracy(square(5), square(7), tolerance=1) < 0.8
    assert boundary_accuracy(square(5), square(25), tolerance=1) == 0.0
    empty = np.zeros((40, 40), bool)
    assert boundary_accuracy(empty, empty) == 1.0 and boundary_accuracy(empty, square(3)) == 0.0
    # of a picture of 100 x 100 the tolerance is 2 pixels
    big = [np.pad(square(left), 30) for left in (5, 7, 9)]
    assert boundary_accuracy(big[0], big[1]) == 1.0 > boundary_accuracy(big[0], big[2])


def test_edges_and_discs():
    # the edge lies inside on two sides and outside on the other two
    assert boundary(square(5)).sum() == 40
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    assert widened(point, 2).sum() == 13 and widened(point, 0).sum() == 1
    corner = np.zeros((5, 5), bool)
    corner[0, 0] = True
    assert widened(corner, 1).sum() == 3
    with pytest.raises(UsageError, match="one shape"):
        region_overlap(point, corner)
