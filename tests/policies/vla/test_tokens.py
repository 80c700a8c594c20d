"""Perception: shapes, what reaches which token, and the models that are read by name or folder."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.config import PerceptionConfig
from embodied_mem.policies.vla.tokens import Bottleneck, make_perception
from embodied_mem.spaces import encode_text

SIZES = {"tokens": 4, "width": 8, "cognitive": 16, "hidden": 16, "heads": 2, "layers": 1, "text": 8}
SPACE = spaces.Dict(
    {
        "vector": spaces.Box(-np.inf, np.inf, (5,), np.float32),
        "instruction": spaces.Box(0, 255, (32,), np.uint8),
        "rgb": spaces.Box(0, 255, (16, 16, 3), np.uint8),
        "rgb_wrist": spaces.Box(0, 255, (16, 16, 3), np.uint8),
    }
)


def observation(n=3, seed=0, text="touch the cup"):
    g = torch.Generator().manual_seed(seed)
    picture = lambda: torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8, generator=g)  # noqa: E731
    words = torch.from_numpy(np.tile(encode_text(text, 32), (n, 1)))
    return {"vector": torch.randn(n, 5, generator=g), "instruction": words, "rgb": picture(), "rgb_wrist": picture()}


def build(encoder, **config):
    torch.manual_seed(0)
    return make_perception(PerceptionConfig(encoder=encoder, **{**SIZES, **config}), SPACE).eval()


@pytest.mark.parametrize(
    ("encoder", "reads", "count"),
    [("state", ("vector",), 4), ("small", ("rgb",), 4), ("small", ("vector", "rgb", "rgb_wrist"), 8)],
)
@torch.no_grad()
def test_tokens_have_their_shapes_and_read_what_they_say(encoder, reads, count):
    made, obs = build(encoder, reads=reads), observation()
    perceptual, cognitive = made(obs)
    assert perceptual.shape == (3, count, 8) == (3, made.tokens, 8) and cognitive.shape == (3, 16)
    for key in SPACE.spaces:
        other = {**obs, key: observation(seed=1, text="press the button")[key]}
        assert torch.allclose(made(other)[1], cognitive) != (key in (*reads, "instruction"))


@torch.no_grad()
def test_a_part_of_the_state_reaches_its_own_token_alone():
    made, obs = build("state", parts=(2, 1, 2)), observation()
    perceptual, cognitive = made(obs)
    assert perceptual.shape == (3, 3, 8) and made.tokens == 3
    other = {**obs, "vector": obs["vector"].clone()}
    other["vector"][:, 2] += 1
    seen, thought = made(other)
    assert ((seen - perceptual).abs().amax((0, 2)) > 0).tolist() == [False, True, False]
    assert not torch.allclose(thought, cognitive)
    for parts, message in (((2, 2), "add up to 5"), ((5, 0), "sizes >= 1")):
        with pytest.raises(UsageError, match=message):
            build("state", parts=parts)
    with pytest.raises(UsageError, match="with encoder 'state'"):
        build("small", parts=(5,))


@torch.no_grad()
def test_state_is_normalised_as_in_the_demonstrations():
    made = build("state")
    states = np.random.default_rng(0).normal(3.0, 10.0, (500, 5)).astype(np.float32)
    states[:, 2] = 7.0
    made.fit(states)
    seen = made._state({"vector": torch.from_numpy(states)})
    kept = [0, 1, 3, 4]
    assert seen[:, kept].mean(0).abs().max() < 0.02 and (seen[:, kept].std(0) - 1).abs().max() < 0.05
    assert not seen[:, 2].any() and not made._state({"vector": torch.full((1, 5), 9.0)})[:, 2].any()


@torch.no_grad()
def test_the_bottleneck_pools_over_the_grid():
    torch.manual_seed(0)
    made = Bottleneck(3, 8, 4)
    patches = torch.zeros(1, 16, 3)
    before = made(patches)
    patches[0, 0] = 5.0
    moved = (made(patches) - before).abs().amax(-1)[0]
    assert moved.argmax() == 0 and before.shape == (1, 4, 8)


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("open_clip", reason="needs open_clip_torch")
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision}))
    return str(path)


def test_an_open_clip_tower_gives_patch_features(clip):
    frozen, tuned = (build("open_clip", model=clip, frozen=item, reads=("rgb",)) for item in (True, False))
    for made in (frozen, tuned):
        perceptual, cognitive = made(observation())
        assert perceptual.shape == (3, 4, 8) and cognitive.shape == (3, 16)
        (perceptual.sum() + cognitive.square().sum()).backward()
        weight = made.tower.conv1.weight
        assert (weight.grad is not None) == (made is tuned)


def test_an_open_clip_tower_with_named_weights_stays_out_of_the_policy(clip, tmp_path):
    from embodied_mem.perception.open_clip_weights import build_tower

    torch.manual_seed(5)
    tower, _ = build_tower(clip, None)
    torch.save(tower.state_dict(), tmp_path / "tower.pt")
    made = build("open_clip", model=clip, weights=str(tmp_path / "tower.pt"), reads=("rgb",))
    assert not any("tower" in key or "conv1" in key for key in made.state_dict())
    with torch.no_grad():
        planes = observation()["rgb"].permute(0, 3, 1, 2).float() / 255
        planes = torch.nn.functional.interpolate(planes, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
        tower.output_tokens = True
        wanted = tower.eval()((planes - made.clip_mean) / made.clip_std)[1]
        assert torch.allclose(made.patches("rgb", observation()["rgb"]), wanted, atol=1e-5)


@pytest.fixture
def language_model(tmp_path):
    """A LLaVA with random weights, two layers of 16 numbers and 61 words, and its processor."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<pad>", "<image>", *"touch the cup press button red blue".split()]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<pad>", "<image>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    text = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=2, vision_feature_layer=-1
    )
    torch.manual_seed(0)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    pictures = transformers.CLIPImageProcessor(
        size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16}, do_center_crop=False
    )
    transformers.LlavaProcessor(
        image_processor=pictures, tokenizer=fast, patch_size=4, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(tmp_path)  # fmt: skip
    return str(tmp_path)


def test_a_vision_language_model_gives_both_kinds_of_tokens(language_model):
    made, obs = build("transformers", model=language_model, reads=("vector", "rgb")), observation()
    assert not any("layers" in key for key in made.state_dict())
    with torch.no_grad():
        perceptual, cognitive = made(obs)
        assert perceptual.shape == (3, 4, 8) and cognitive.shape == (3, 16)
        other = made({**obs, "instruction": observation(text="press the red button")["instruction"]})
        assert torch.allclose(other[0], perceptual) and not torch.allclose(other[1], cognitive)
        moved = made({**obs, "rgb": 255 - obs["rgb"]})
        assert not torch.allclose(moved[0], perceptual) and not torch.allclose(moved[1], cognitive)


def test_the_cognitive_token_is_of_the_last_word_whatever_the_padding(language_model):
    made, obs = build("transformers", model=language_model, reads=("rgb",)), observation()
    longer = observation(text="touch the red cup the blue cup")["instruction"]
    mixed = {**obs, "instruction": torch.cat([obs["instruction"][:2], longer[2:]])}
    with torch.no_grad():
        assert torch.allclose(made(mixed)[1][:2], made(obs)[1][:2], atol=1e-5)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match="reads pictures"):
        build("small", reads=("vector",))
    with pytest.raises(UsageError, match="'vector'"):
        build("state", reads=("rgb",))
    with pytest.raises(UsageError, match="divisible by patch 7"):
        build("small", patch=7)
    with pytest.raises(UsageError, match="expected perception.model"):
        build("transformers")
    with pytest.raises(UsageError, match="no config.json"):
        build("transformers", model=str(tmp_path))
