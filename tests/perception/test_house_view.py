import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import make_encoder
from embodied_mem.perception.house_view import HEIGHT, WEIGHTS, WIDE
from embodied_mem.perception.house_words import PAIRS, WALL_WORDS, WIDTH, concepts_of, find_pairs, pair_name
from embodied_mem.stream.encode import embed_question, make_frame_encoder
from embodied_mem.stream.house_tour.head import WEIGHTS as HEAD_WEIGHTS


@pytest.fixture(scope="module")
def frames():
    from embodied_mem.stream.house_tour.tours import TourStream, whole_log

    chunks = [chunk for seed in (1, 2) for chunk in TourStream(150, seed=seed, split="test").chunks()]
    return np.concatenate([chunk.rgb for chunk in chunks]), whole_log([chunk.log for chunk in chunks])


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("house", spaces.Box(0, 255, (HEIGHT, WIDE, 3), np.uint8)).eval()


def test_shipped_weights_are_small():
    assert WEIGHTS.stat().st_size + HEAD_WEIGHTS.stat().st_size <= 4 * 2**20


@torch.no_grad()
def test_it_sees_what_is_there_in_houses_it_was_not_trained_on(encoder, frames):
    rgb, log = frames
    tokens = encoder(torch.from_numpy(rgb)).numpy()
    assert tokens.shape == (len(rgb), WIDTH) and tokens.min() >= 0 and tokens.max() <= 1
    assert (tokens[:, PAIRS:].argmax(1) == log.walls).mean() >= 0.8
    shown, absent = tokens[:, :PAIRS][log.seen], tokens[:, :PAIRS][~log.glimpsed]
    assert (shown > 0.5).mean() >= 0.6 and (absent > 0.5).mean() <= 0.01


@torch.no_grad()
def test_text_and_image_meet(encoder, frames):
    """The words of a pair are nearer to frames that show it than to those that do not."""
    rgb, log = frames
    tokens = encoder(torch.from_numpy(rgb)).numpy()
    better = []
    for p in np.flatnonzero(log.seen.sum(0) >= 5):
        fit = tokens @ encoder.embed_text(f"the {pair_name(int(p))}")
        better.append(fit[log.seen[:, p]].mean() > fit[~log.glimpsed[:, p]].mean() + 0.2)
    assert len(better) >= 8 and np.mean(better) >= 0.8


@torch.no_grad()
def test_larger_pictures_are_shrunk(encoder, frames):
    rgb = frames[0][:8]
    large = np.repeat(np.repeat(rgb, 4, 1), 4, 2)
    assert torch.allclose(encoder(torch.from_numpy(large)), encoder(torch.from_numpy(rgb)), atol=1e-4)


def test_sessions_use_it_by_name_and_embed_questions(frames):
    encode = make_frame_encoder("house")
    assert encode(frames[0][0]).shape == (1, WIDTH)
    assert embed_question(encode, "Where was the red bed last seen?").sum() == 1
    assert embed_question(encode, "Hello") is None
    assert embed_question(make_frame_encoder("grid"), "red bed") is None


@pytest.mark.parametrize(
    "text, found",
    [
        ("the red bed", [(0, 0)]),
        ("a bed and two green sofas", [(None, 0), (3, 1)]),
        ("red walls", []),
        ("Red BED?", [(0, 0)]),
    ],
)
def test_things_are_found_in_words(text, found):
    assert find_pairs(text) == found


def test_concepts_of_walls_and_things():
    assert concepts_of("between blue walls").nonzero()[0].tolist() == [PAIRS + WALL_WORDS.index("blue")]
    assert concepts_of("the blue bed between blue walls").sum() == 2
    assert concepts_of("nothing at all").sum() == 0


def test_wrong_inputs_are_refused(tmp_path):
    box = spaces.Box(0, 255, (HEIGHT, WIDE, 3), np.uint8)
    with pytest.raises(UsageError, match="RGB"):
        make_encoder("house", spaces.Box(0, 1, (4,), np.float32))
    with pytest.raises(UsageError, match="weights"):
        make_encoder("house", box, {"weights": str(tmp_path / "none.safetensors")})
