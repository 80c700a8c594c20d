import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.perception import images as ops

RGB = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)


def test_resize_averages_areas_when_shrinking():
    out = ops.resize(RGB, 6, 10)
    blocks = RGB.reshape(3, 6, 2, 10, 2, 3).astype(float).mean((2, 4))
    assert out.shape == (3, 6, 10, 3) and out.dtype == np.uint8
    assert np.abs(out - blocks).max() <= 1


def test_resize_keeps_ids_and_single_channels():
    ids = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)
    assert set(ops.resize(ids, 8, 12, "nearest").ravel()) == set(range(24))
    assert ops.resize(RGB[..., :1], 5, 5).shape == (3, 5, 5, 1)
    depth = np.full((2, 8, 8), 2.5, np.float32)
    np.testing.assert_allclose(ops.resize(depth, 4, 4), 2.5)


@pytest.mark.parametrize("space", ["bgr", "hsv", "lab"])
def test_colour_spaces_round_trip(space):
    back = ops.to_rgb(ops.convert(RGB, space), space)
    assert np.abs(back.astype(int) - RGB).max() <= {"bgr": 0, "hsv": 8, "lab": 24}[space]


def test_gray_is_luminance_per_image():
    gray = ops.convert(RGB, "gray")
    expected = RGB @ np.array([0.299, 0.587, 0.114])
    assert gray.shape == (3, 12, 20) and np.abs(gray - expected).max() <= 1
    assert (ops.to_rgb(gray, "gray")[..., 2] == gray).all()


def test_crop_repeats_the_border():
    boxes = np.array([[0, 0, 4, 5], [10, 18, 4, 5], [-2, -2, 4, 5]])
    out = ops.crop(RGB, boxes)
    assert (out[0] == RGB[0, :4, :5]).all()
    assert (out[1, 2:] == out[1, 1]).all() and (out[2, :3, :3] == RGB[2, 0, 0]).all()
    assert (ops.center_crop(RGB, 6, 10) == RGB[:, 3:9, 5:15]).all()


def test_adjust():
    assert (ops.adjust(RGB) == RGB).all()
    gray = ops.adjust(RGB, saturation=0.0)
    assert np.ptp(gray.astype(int), axis=-1).max() <= 1
    assert (ops.adjust(RGB, contrast=0.0, brightness=0.5) == 255).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.resize(RGB[0, 0], 4, 4),
        lambda: ops.resize(RGB, 0, 4),
        lambda: ops.resize(RGB, 4, 4, "linaer"),
        lambda: ops.convert(RGB[..., 0], "gray"),
        lambda: ops.convert(RGB, "xyz"),
        lambda: ops.crop(RGB, np.zeros((2, 4), int)),
        lambda: ops.crop(RGB, np.array([[0, 0, 4, 5], [0, 0, 4, 5], [0, 0, 4, 6]])),
        lambda: ops.adjust(RGB, contrast=-1.0),
        lambda: ops.resize(RGB.astype(np.int64), 4, 4),
    ],
)
def test_bad_input_is_explained(call):
    with pytest.raises(UsageError, match="expected|unknown"):
        call()
