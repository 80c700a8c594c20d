"""The words of street instructions, as numbers of concepts: what a reader without pictures can use of a text.

A text in bytes becomes one number per token: a concept of the lexicon, `OTHER` for words that are none (landmarks,
names, scenery; a run of them is one token), a sentence end or a pause. Articles and auxiliaries are left out, and words
that ask for the same thing share a concept (light, lights, stoplight), so a text that was written by a person and one
that a generator made differ less than their bytes do. Everything is tensor arithmetic over a batch: words are hashed
with a polynomial in their letters and looked up in the sorted hashes of the lexicon.

Limits: English, whole words (a misspelt one is `OTHER`), at most `_LONGEST` letters of a word count.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PAD, OTHER, PERIOD, COMMA = range(4)
_LEFT_OUT = (
    "the a an your you youll youre youve youd ll ve re s will should would can could may see be is are was were been "
    "being am i it its this that these those there theres theyre here have has had do does did as so of and also well "
    "just what which who very really then"
)
_CONCEPTS = (
    "go walk head proceed continue keep move travel follow going walking heading continuing moving drive come get "
    "goes run advance traveling continuously",
    "start begin starting beginning",
    "straight forward forwards ahead directly onward",
    "turn turning turns take taking make making hang bear veer rotate pivot swing",
    "left lefthand leftward",
    "right righthand rightward",
    "around uturn u back",
    "through thru cross crossing across over",
    "past pass passing passed by beyond",
    "to toward towards into onto",
    "until till reach reaching when where arrive",
    "at",
    "before prior short",
    "after once",
    "with",
    "on",
    "in inside within",
    "front",
    "next following",
    "first 1st",
    "second 2nd",
    "third 3rd thirds",
    "fourth 4th fourths",
    "fifth 5th",
    "sixth 6th seventh 7th eighth 8th",
    "one 1 single",
    "two 2 both couple double pair",
    "three 3",
    "four 4",
    "five 5",
    "six 6 seven 7 eight 8 nine 9 ten 10",
    "few several some many",
    "another more additional other",
    "light lights stoplight stoplights signal signals",
    "intersection intersections junction junctions crossroad crossroads crosswalk crosswalks",
    "corner corners",
    "block blocks",
    "street streets road roads avenue lane path way",
    "sign signs",
    "set sets",
    "t tee fork splits",
    "dead end ends ending curve curves bend bends",
    "stop stopping halt destination finish",
    "step steps pace paces feet foot yards spaces",
    "half halfway middle mid midway center centre",
    "quarter quarters",
    "almost nearly close",
    "all entire whole full",
    "down up along",
    "long far",
    "near nearest closest nearby",
    "side hand",
    "immediately immediate instantly quick quickly",
    "soon shortly",
    "face facing orient orientate position align turned looking look pointed point",
    "traffic flow cars vehicles",
    "against opposite oncoming wrong",
    "direction same",
    "behind",
    "last final",
    "again",
    "not dont ignore instead never without cannot cant",
    "slight slightly",
    "sharp hard",
    "if gone too",
    "from away",
    "between",
    "beside alongside",
    "enter entering entered",
    "under underneath",
    "option possible available able chance opportunity",
    "yourself yourselves",
    "during while",
    "about approximately roughly",
    "bit little distance",
    "longer only",
)
_GLUE = 39
_BASE, _MODULUS, _LONGEST = 131, (1 << 31) - 1, 24


def concepts() -> dict[str, int]:
    """Return the number of every word of the lexicon; words that are left out have -1.

    >>> words = concepts()
    >>> words["lights"] == words["stoplight"], words["the"]
    (True, -1)
    """
    found = {word: -1 for word in _LEFT_OUT.split()}
    for number, line in enumerate(_CONCEPTS, start=COMMA + 1):
        found.update({word: number for word in line.split()})
    return found


VOCABULARY = COMMA + 1 + len(_CONCEPTS)
"""V: concepts and the four marks."""


def tokenize(text: Tensor, words: int) -> Tensor:
    """Return the concepts (N, words) int64 of texts (N, L) uint8, zero-padded; what is longer is cut.

    >>> from embodied_mem.spaces import encode_text
    >>> text = encode_text("Go to the 2nd light, then turn left.", 64)
    >>> tokenize(torch.from_numpy(text).unsqueeze(0), 9)[0].tolist() == [
    ...     concepts().get(word, {",": COMMA, ".": PERIOD}.get(word, PAD))
    ...     for word in ("go", "to", "2nd", "light", ",", "turn", "left", ".", "")
    ... ]
    True
    """
    x = text.long()
    x = torch.where((x >= 65) & (x <= 90), x + 32, x)
    letter = ((x >= 97) & (x <= 122)) | ((x >= 48) & (x <= 57))
    stop = (x == 46) | (x == 33) | (x == 63) | (x == 59)
    pause = (x == 44) | (x == 58) | (x == 40) | (x == 41)
    # An apostrophe, and bytes of other alphabets, neither end a word nor belong to it.
    before = _before((x != _GLUE) & (x < 128))
    inside = letter.gather(1, before.clamp(min=0)) & (before >= 0)
    begins = (letter & ~inside) | stop | pause
    token = begins.cumsum(1) - 1
    count = letter.cumsum(1)
    place = count - 1 - torch.where(begins, count - letter.long(), 0).cummax(1).values
    room = 3 * words
    slot = torch.where(letter & (token < room), token, room)
    powers = torch.tensor([pow(_BASE, k, _MODULUS) for k in range(_LONGEST)], device=x.device)
    value = torch.where(letter, x * powers[place.clamp(0, _LONGEST - 1)] % _MODULUS, 0)
    hashed = torch.zeros(len(x), room + 1, dtype=torch.int64, device=x.device).scatter_add_(1, slot, value)[:, :room]
    marks = torch.zeros_like(hashed)
    kind = torch.where(stop, PERIOD, torch.where(pause, COMMA, 0))
    spot = torch.where((kind > 0) & (token < room), token, room)
    marks = torch.nn.functional.pad(marks, (0, 1)).scatter_(1, spot, kind)[:, :room]
    found = torch.where(marks > 0, marks, _look_up(hashed % _MODULUS))
    kept = (found != PAD) & (found >= 0)
    last = _before(kept)
    repeated = (found == OTHER) & (last >= 0) & (found.gather(1, last.clamp(min=0)) == OTHER)
    return _compact(found, kept & ~repeated, words)


def _before(flag: Tensor) -> Tensor:
    """Return the place (N, L) of the nearest True in ``flag`` before each place, -1 where there is none."""
    places = torch.arange(flag.shape[1], device=flag.device).expand_as(flag)
    latest = torch.where(flag, places, -1).cummax(1).values
    return torch.nn.functional.pad(latest[:, :-1], (1, 0), value=-1)


def _compact(value: Tensor, kept: Tensor, width: int) -> Tensor:
    """Return the kept entries of each row, in order, as (N, width), padded with `PAD`."""
    target = torch.where(kept, kept.cumsum(1) - 1, width).clamp(max=width)
    out = torch.full((len(value), width + 1), PAD, dtype=value.dtype, device=value.device)
    return out.scatter_(1, target, value)[:, :width]


def _look_up(hashed: Tensor) -> Tensor:
    """Return concepts, -1 for words left out, `OTHER` for unknown words, `PAD` where the hash is 0."""
    keys, values = (part.to(hashed.device) for part in _table())
    place = torch.searchsorted(keys, hashed).clamp(max=len(keys) - 1)
    found = torch.where(keys[place] == hashed, values[place], OTHER)
    return torch.where(hashed == 0, PAD, found)


@lru_cache(maxsize=1)
def _table() -> tuple[Tensor, Tensor]:
    """Return the sorted hashes (K,) of the lexicon and their concepts (K,), int64."""
    pairs = sorted((_hash(word), number) for word, number in concepts().items())
    assert len({key for key, _ in pairs}) == len(pairs), "two words of the lexicon share a hash"
    return torch.tensor([key for key, _ in pairs]), torch.tensor([number for _, number in pairs])


def _hash(word: str) -> int:
    total = sum(ord(letter) * pow(_BASE, min(k, _LONGEST - 1), _MODULUS) % _MODULUS for k, letter in enumerate(word))
    return total % _MODULUS
