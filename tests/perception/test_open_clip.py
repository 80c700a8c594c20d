import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import make_encoder
from embodied_mem.perception.feature_cache import FeatureCache

pytest.importorskip("open_clip", reason="needs open_clip_torch")
BOX = spaces.Box(0, 255, (24, 24, 3), np.uint8)
TINY = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return str(path)


def images(n, seed=0):
    return torch.randint(0, 256, (n, 24, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_frozen_features_are_cached_by_content(model):
    encoder = make_encoder("open_clip", BOX, {"model": model, "weights": None, "cache": 8})
    batch = images(4)
    first = encoder(batch)
    assert first.shape == (4, 16) and not first.requires_grad
    again = encoder(torch.cat([batch.flip(0), batch[:1]]))
    torch.testing.assert_close(again, torch.cat([first.flip(0), first[:1]]), rtol=0, atol=0)
    assert (encoder.cache.misses, encoder.cache.hits) == (4, 5)
    encoder(images(20, seed=1))
    assert len(encoder.cache) == 8


def test_tuned_tower_gets_gradients(model):
    encoder = make_encoder("open_clip", BOX, {"model": model, "weights": None, "frozen": False})
    encoder(images(2)).square().sum().backward()
    assert all(p.grad is not None for p in encoder.tower.parameters())


def test_weights_come_from_a_file_and_stay_out_of_the_checkpoint(model, tmp_path):
    from safetensors.torch import save_file

    random = make_encoder("open_clip", BOX, {"model": model, "weights": None})
    assert random.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({f"visual.{key}": value for key, value in random.tower.state_dict().items()}, path)
    loaded = make_encoder("open_clip", BOX, {"model": model, "weights": str(path)})
    assert not loaded.state_dict() and not list(loaded.parameters())
    torch.testing.assert_close(loaded(images(3)), random(images(3)))
    loaded.double().float()
    assert loaded.train()._module().training is False


def test_loading_weights_forgets_cached_features(model):
    one = make_encoder("open_clip", BOX, {"model": model, "weights": None})
    two = make_encoder("open_clip", BOX, {"model": model, "weights": None})
    one(images(2))
    one.load_state_dict(two.state_dict())
    torch.testing.assert_close(one(images(2)), two(images(2)))


def test_what_is_not_there_is_explained_and_never_fetched(model, tmp_path, monkeypatch):
    import open_clip

    def fetch(*args, **kwargs):
        raise AssertionError("download")

    monkeypatch.setattr(open_clip, "download_pretrained", fetch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="not in the cache"):
        make_encoder("open_clip", BOX, {"model": "RN50", "weights": "cc12m"})
    with pytest.raises(UsageError, match="did you mean 'ViT-B-32'"):
        make_encoder("open_clip", BOX, {"model": "ViT-B_32"})
    with pytest.raises(UsageError, match="neither a file nor a tag"):
        make_encoder("open_clip", BOX, {"model": model, "weights": "opena"})
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot read weights"):
        make_encoder("open_clip", BOX, {"model": model, "weights": str(broken)})
    with pytest.raises(UsageError, match="RGB"):
        make_encoder("open_clip", spaces.Box(0, 1, (24, 24), np.float32), {"model": model})


def test_cache_encodes_each_distinct_image_once():
    cache = FeatureCache(2)
    calls = []

    def encode(batch):
        calls.append(len(batch))
        return batch.float().mean((1, 2))

    batch = images(3)[[0, 1, 0, 2]]
    torch.testing.assert_close(cache.features(batch, encode), batch.float().mean((1, 2)))
    assert calls == [3] and len(cache) == 2
