"""Texts as concepts, in tensor arithmetic: what a plain loop over the words says."""

import re

import numpy as np
import torch

from embodied_mem.perception.street_words import COMMA, OTHER, PAD, PERIOD, VOCABULARY, concepts, tokenize
from embodied_mem.spaces import encode_text

TEXTS = [
    "Go straight through the next 2 lights. At the THIRD light, with Joe's Pizza & Sons on the corner, turn left!",
    "Turn right.Then stop; don't go past the T-intersection (it's a dead-end): you'd be 1/4 block too far?",
    "",
    "  the  a an ",
    "Café Zoë, café — “quoted” then Duane Reade Starbucks turn around",
    "antidisestablishmentarianismus left " * 3,
]


def slowly(text, words):
    known, found = concepts(), []
    for piece in re.findall(r"[a-z0-9]+|[.!?;]|[,:()]", re.sub(r"['\u0080-\uffff]", "", text.lower())):
        if piece in ".!?;":
            number = PERIOD
        elif piece in ",:()":
            number = COMMA
        else:
            number = known.get(piece, OTHER)
        if number < 0 or (number == OTHER and found and found[-1] == OTHER):
            continue
        found.append(number)
    return (found + [PAD] * words)[:words]


def tokens(texts, words=40, length=256):
    return tokenize(torch.from_numpy(np.stack([encode_text(text, length) for text in texts])), words)


def test_it_is_what_a_loop_over_words_finds():
    found = tokens(TEXTS)
    assert found.shape == (len(TEXTS), 40) and found.dtype == torch.int64 and int(found.max()) < VOCABULARY
    assert found.tolist() == [slowly(text, 40) for text in TEXTS]
    assert (found[2:4] == PAD).all()


def test_longer_texts_are_cut_and_rows_do_not_depend_on_each_other():
    whole, cut = tokens(TEXTS, 40), tokens(TEXTS, 7)
    assert torch.equal(cut, whole[:, :7])
    assert torch.equal(tokens(TEXTS[1:2]), whole[1:2])
    assert torch.equal(tokens(TEXTS, length=2304), whole)


def test_words_for_the_same_thing_are_one_concept_and_none_is_listed_twice():
    known = concepts()
    assert known["lights"] == known["stoplight"] and known["left"] != known["right"]
    from embodied_mem.perception import street_words

    listed = [word for line in street_words._CONCEPTS for word in line.split()] + street_words._LEFT_OUT.split()
    assert len(listed) == len(set(listed)) and all(word.isalnum() for word in listed)
