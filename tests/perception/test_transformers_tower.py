"""The transformers tower on tiny models of random weights: two towers meet in one space, one tower alone works too."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import make_encoder

transformers = pytest.importorskip("transformers")
BOX = spaces.Box(0, 255, (20, 30, 3), np.uint8)
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def images(n, seed=0):
    return torch.randint(0, 256, (n, 20, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "red", "mug"])}
    table = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    table.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=table, pad_token="<pad>", eos_token="</s>")
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("clip"))
    vision = {**SIZES, "image_size": 16, "patch_size": 8}
    text = {**SIZES, "vocab_size": 5, "max_position_embeddings": 6, "eos_token_id": 2, "bos_token_id": 1}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    tokenizer(folder)
    return folder


def test_images_and_texts_meet_in_one_space(clip):
    encoder = make_encoder("transformers", BOX, {"path": clip, "cache": 4})
    found = encoder(images(3))
    assert found.shape == (3, encoder.out_dim) == (3, 8) and not found.requires_grad
    assert torch.equal(encoder(images(3)), found) and encoder.cache.hits == 3
    red, mug = (encoder.embed_text(text) for text in ("red", "red mug red mug red mug red mug"))
    assert red.shape == (8,) and red.dtype == np.float32 and not np.allclose(red, mug)
    model = transformers.CLIPModel.from_pretrained(clip)
    planes = torch.nn.functional.interpolate(
        images(3).permute(0, 3, 1, 2) / 255.0, (16, 16), mode="bicubic", antialias=True
    )
    planes = (planes.clamp(0, 1) - encoder.mean) / encoder.std
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixel_values=planes).pooler_output)
        words = model.text_projection(model.text_model(input_ids=torch.tensor([[3]])).pooler_output)[0]
    assert torch.allclose(found, expected, atol=1e-5) and np.allclose(red, words, atol=1e-5)
    assert not encoder.state_dict(), "the tower is read from its folder again"


def test_a_stream_is_asked_in_words(clip):
    from embodied_mem.stream.encode import embed_question, make_frame_encoder

    encoder = make_frame_encoder("transformers", {"path": clip})
    assert embed_question(encoder, "red mug") is None, "nothing was seen yet, so there is no space to be in"
    assert encoder(images(1)[0].numpy()).shape == (1, 8)
    assert embed_question(encoder, "red mug").shape == (8,)


@pytest.mark.parametrize("kind", ["Dinov2", "ViT"])
def test_one_tower_alone_has_no_words(kind, tmp_path):
    config = getattr(transformers, f"{kind}Config")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    getattr(transformers, f"{kind}Model")(config(**sizes)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    encoder = make_encoder("transformers", BOX, {"path": str(tmp_path), "cache": 0})
    found = encoder(images(2))
    assert found.shape == (2, 16) and not torch.allclose(found[0], found[1])
    assert not encoder.embed_text("red mug").any()


def test_errors_are_one_line(tmp_path, clip):
    for options in ({}, {"path": str(tmp_path)}):
        with pytest.raises(UsageError, match="expected path=FOLDER"):
            make_encoder("transformers", BOX, options)
    with pytest.raises(UsageError, match="expected RGB images"):
        make_encoder("transformers", spaces.Box(0, 255, (20, 30, 1), np.uint8), {"path": clip})
    for text in ('{"model_type": "llama"}', "not json"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UsageError, match="cannot be loaded") as caught:
            make_encoder("transformers", BOX, {"path": str(tmp_path)})
        assert "\n" not in str(caught.value)
