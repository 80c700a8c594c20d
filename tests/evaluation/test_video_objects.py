"""Video objects: a folder in the layout of DAVIS is read, followed, scored beside its controls."""

import json

import cv2
import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.video_objects import evaluate_folder, main, read_folder, score_video
from embodied_mem.stream.mask_propagation import PropagationConfig

LABEL = 200
CONFIG = PropagationConfig(stride=2, every=3)


def film(frames=16):
    """A red square that moves through a grey picture; from frame 6 on a second, green one."""
    images, labels = [], []
    for t in range(frames):
        image, label = np.full((24, 36, 3), 120, np.uint8), np.zeros((24, 36), np.int32)
        image[4:12, 2 + t : 10 + t], label[4:12, 2 + t : 10 + t] = (220, 30, 30), LABEL
        if t >= 6:
            image[14:22, 25:33], label[14:22, 25:33] = (30, 200, 40), 7
        images.append(image)
        labels.append(label)
    return images, labels


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        pictures, masks = tmp_path / "JPEGImages" / "480p" / name, tmp_path / "Annotations" / "480p" / name
        pictures.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number, (image, label) in enumerate(zip(*film())):
            cv2.imwrite(str(pictures / f"{number:05d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
            cv2.imwrite(str(masks / f"{number:05d}.png"), label)
    return tmp_path


def test_the_memory_follows_and_the_controls_lose_it():
    images, labels = film()
    found = {name: score_video(images, labels, name, CONFIG) for name in ("memory", "previous")}
    assert len(found["memory"]["j"]) == 2 and found["memory"]["j"].min() > 0.7 and found["memory"]["f"].min() > 0.5
    # what stands still needs no memory, what moves does
    assert found["previous"]["j"].max() == 1.0 and found["previous"]["j"].min() < 0.3
    assert found["previous"]["bytes"].max() == 0 < found["memory"]["bytes"].max()


def test_a_folder_is_evaluated(folder, capsys):
    names = [name for name, _, _ in read_folder(folder)]
    result = evaluate_folder(folder, CONFIG)
    assert names == result["config"]["videos"] == ["a", "b"] and set(result["controls"]) == {"first", "previous"}
    assert result["metrics"]["j_and_f"]["mean"] > result["controls"]["previous"]["j_and_f"]["mean"]
    main([str(folder), "--stride", "2"])
    assert json.loads(capsys.readouterr().out)["metrics"]["j_mean"]["n"] == 4


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(UsageError, match="expected the folder"):
        evaluate_folder(tmp_path / "gone")
    next((folder / "JPEGImages" / "480p" / "b").iterdir()).unlink()
    with pytest.raises(UsageError, match="an image in .* for every annotation"):
        evaluate_folder(folder, CONFIG)
    with pytest.raises(UsageError, match="two frames or more"):
        score_video([], [], "memory", CONFIG)
