"""The reader: step and sequence agree, padding and neighbours do not matter, the memo follows text and weights."""

import copy

import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.perception.street_words import OTHER, PAD, tokenize
from embodied_mem.perception.text_reader import ReaderConfig, TextReader
from embodied_mem.spaces import encode_text

CONFIG = ReaderConfig(width=16, embedding=8, heads=2, hops=2, words=24)
WORDS = ["Turn left at the second light and stop.", "Go straight past Joe's. Stop before the next intersection.", ""]


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return TextReader(CONFIG, 6)


def texts(*which, length=80):
    return torch.from_numpy(np.stack([encode_text(WORDS[k], length) for k in which]))


def test_a_sequence_with_changing_texts_is_the_loop_over_steps(reader):
    query = torch.randn(2, 4, 6)
    along = torch.stack([texts(0, 0, 1, 1), texts(2, 1, 1, 0)])
    whole = reader(query, along)
    with torch.no_grad():
        single = torch.stack([reader(query[:, t], along[:, t]) for t in range(4)], 1)
    assert whole.shape == (2, 4, 16) and torch.allclose(whole, single, atol=1e-5)
    fixed = torch.stack([texts(0, 0, 0, 0), texts(1, 1, 1, 1)])
    assert torch.allclose(reader(query, fixed)[0], reader(query, along[:1].expand(2, -1, -1) * 0 + fixed)[0], atol=1e-6)


def test_neither_padding_nor_neighbours_change_an_answer(reader):
    query = torch.randn(3, 6)
    with torch.no_grad():
        together = reader(query, texts(0, 1, 2))
        for row in range(3):
            alone = reader(query[row : row + 1], texts(row, length=200))
            assert torch.allclose(alone[0], together[row], atol=1e-5) and torch.isfinite(alone).all()
    tokens = tokenize(texts(0), 24)
    wide, narrow = reader.encode(tokens), reader.encode(tokens[:, : int((tokens != PAD).sum())])
    assert torch.allclose(reader.attend(query[:1, None], wide), reader.attend(query[:1, None], narrow), atol=1e-5)


def test_the_memo_follows_texts_and_weights(reader):
    query = torch.randn(2, 6)
    with torch.no_grad():
        first = reader(query, texts(0, 1))
        assert torch.equal(reader(query, texts(0, 1)), first)
        changed = reader(query, texts(0, 2))
        assert torch.allclose(changed[0], first[0], atol=1e-6) and not torch.allclose(changed[1], first[1], atol=1e-3)
        reader.embedding.weight.mul_(2.0)
        assert not torch.allclose(reader(query, texts(0, 2)), changed, atol=1e-4)
    assert copy.deepcopy(reader)._memo is None


def test_hidden_words_become_other_and_padding_stays(reader):
    tokens = tokenize(texts(0, 1, 2), 24)
    generator = torch.Generator().manual_seed(0)
    hidden = reader.hide(tokens, 0.5, generator)
    changed = hidden != tokens
    assert 0.2 < changed[tokens != PAD].float().mean() < 0.8 and (hidden[changed] == OTHER).all()
    assert torch.equal(hidden == PAD, tokens == PAD) and torch.equal(reader.hide(tokens, 0.0), tokens)


@pytest.mark.parametrize("wrong", [{"width": 15}, {"hops": 0}, {"heads": 3}])
def test_wrong_sizes_are_explained(wrong):
    with pytest.raises(UsageError, match="expected reader"):
        ReaderConfig(**{"width": 16, "heads": 2, **wrong})
