"""Trains the question head of ``house-head`` on tours of train houses and writes the weights of the package.

python -m embodied_mem.experiments.house_head [--short 12] [--middle 6] [--long 3] [--longest 5] [--out FILE]

Every stream is encoded once with the shipped encoder, the longest one has ten hours; questions are asked of the whole
history and of several memories of drawn sizes, one example in twelve of nothing at all, so that the head learns what
cannot be known. The simulator also tells which tokens show what is asked about. One thread, some minutes. Prints one
JSON value: accuracy on streams of the test split, whole history and blind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from embodied_mem.files import atomic_write_bytes
from embodied_mem.perception.house_view import HouseViewNet, load_net
from embodied_mem.perception.house_words import COLOUR_WORDS, PAIRS, THINGS, WIDTH, pair_name
from embodied_mem.stream.house_tour.head import WEIGHTS, HouseHead, Parsed, parse, sought, stretches
from embodied_mem.stream.house_tour.questions import CHANCE, KINDS, STATED, TEMPLATES, ask
from embodied_mem.stream.house_tour.replay import Reading, Tokens, encode_cached, replay
from embodied_mem.stream.house_tour.tours import POOL, TourStream
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

SIZES = {"short": (120, 1), "middle": (1200, 3), "long": (4800, 6), "longest": (36000, 12)}
"""Seconds and houses of training streams."""
ASKED = {"short": 1, "middle": 1, "long": 2, "longest": 6}
"""Times ``--each`` questions of every kind of one stream."""
TRAIN, CHECK = (4000, 4400), (0, POOL)
"""Houses of the train split that the head learns from, which the encoder has not seen; those of the test split."""
OTHER = (
    "What is the weather like?", "Who are you?", "How much does it cost?", "What day is it today?", "Tell me a story",
    "Where is my phone?", "What is the capital of France?", "How do I get to the station?", "Is anybody home?",
    "What did the man say?", "Which team won?", "Turn on the light", "How many people were there?", "Hello",
    "Why is the sky blue?", "When does the train leave?", "What is the person doing?", "Did it rain?",
)  # fmt: skip
"""Questions of none of the kinds."""
SEEN_WEIGHT = 4.0
"""Of the loss of sightings, for each thing."""
BRIEF_S = 64.0
"""Longest span of a token of which that is asked: what is merged from far apart shows little of its span."""
Example = tuple[Parsed, torch.Tensor, torch.Tensor, int, torch.Tensor]
"""Question, tokens (M, 128), times (M, 2), right option, and (R, M) 1 where what is `sought` was seen then."""


def memories(draw: np.random.Generator, seconds: int) -> list[StreamMemory]:
    """Return memories of drawn sizes, and one of events that has room for all."""
    slots, alpha = int(np.exp(draw.uniform(np.log(12), np.log(400)))), float(draw.choice([0.0, 0.5, 1.0]))
    return [
        make_stream_memory("full_history"),
        make_stream_memory("uniform", slots=slots),
        make_stream_memory("flash_vstream", csm_slots=max(6, slots // 2), pool=1, alpha=alpha),
        make_stream_memory("movie_chat", long_len=max(8, slots)),
        make_stream_memory("sparse_events", events=4 * slots, parts=int(draw.integers(12, 33))),
        make_stream_memory("sparse_events", events=64 + seconds // 10),
    ]  # fmt: skip


def examples(
    net: HouseViewNet, counts: dict[str, int], split: str, seed: int, each: int, cache: Path | None = None,
    pool: tuple[int, int] = CHECK,
) -> list[Example]:  # fmt: skip
    """Return questions with what some memory holds at their time; ``cache`` is a folder for tokens."""
    found: list[Example] = []
    for length, count in counts.items():
        seconds, houses = SIZES[length]
        for number in range(count):
            stream_seed = seed * 100_000 + 10_000 * list(SIZES).index(length) + number
            tour = TourStream(seconds, stream_seed, split, houses, pool)
            done = encode_cached(cache, f"{split}-{seconds}-{houses}-{stream_seed}", tour, net)
            found += asked_of(done, each * ASKED[length], stream_seed)
            print(f"{length} {number}: {len(found)} examples", flush=True)
    return found


def asked_of(done: Tokens, each: int, seed: int) -> list[Example]:
    """Return questions about one stream, asked of every memory."""
    found: list[Example] = []
    draw = np.random.default_rng(seed)
    seen = np.concatenate([np.zeros((1, PAIRS), np.int32), done.log.seen.cumsum(0, dtype=np.int32)])
    for memory in memories(draw, len(done.tokens)):
        questions = ask(done.log, each, int(draw.integers(1 << 30)))
        reading: Reading = "whole" if memory.bounded is False or draw.random() < 0.5 else "question"
        for got in replay(memory, done.tokens, questions, reading):
            q = got.question
            parsed = parse(q.kind, q.text, q.options)
            tokens, times = stretches(got.evidence.tokens, got.evidence.times)
            start, end = times.numpy().astype(int).T
            counts = seen[end + 1] - seen[start]
            shown = torch.from_numpy(np.stack([counts[:, dims].any(1) for dims in sought(parsed)]))
            found.append((parsed, tokens, times, q.answer, shown.float()))
    return found


def train(head: HouseHead, data: list[Example], epochs: int, rate: float, seed: int) -> None:
    """Fit attention and scores by Adam, 16 questions a step: the right option, and which tokens show the subject."""
    draw, began = np.random.default_rng(seed), time.process_time()
    named = [(name, value) for name, value in head.named_parameters() if not name.startswith(("words", "kind."))]
    optimiser = torch.optim.Adam([value for _, value in named], lr=rate)
    steps = epochs * (len(data) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        at = step % (len(data) // 16)
        if at == 0:
            order = draw.permutation(len(data))
        loss = torch.zeros(())
        for index in order[16 * at : 16 * at + 16]:
            question, tokens, times, answer, shown = data[index]
            if draw.random() < 1 / 12:
                tokens, times, shown = tokens[:0], times[:0], shown[:, :0]
            logits, found = head.both(question, tokens, times)
            brief = times[:, 1] - times[:, 0] <= BRIEF_S
            if bool(brief.any()):
                sure = F.binary_cross_entropy_with_logits(found[:, brief], shown[:, brief])
                loss = loss + SEEN_WEIGHT * len(found) * sure / 16
            loss = loss + F.cross_entropy(logits[None], torch.tensor([answer])) / 16
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for _, value in named], 5.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step}/{steps} {loss.item():.3f} {time.process_time() - began:.0f} s", flush=True)


def train_kinds(head: HouseHead, steps: int, seed: int) -> None:
    """Fit the encoder of questions: templates with words left out, and questions of no kind."""
    draw = np.random.default_rng(seed)
    optimiser = torch.optim.Adam([*head.words.parameters(), *head.kind.parameters()], lr=1e-2)
    for _ in range(steps):
        texts, labels = [], []
        for _ in range(32):
            label = int(draw.integers(len(KINDS) + 1))
            if label == len(KINDS):
                text = str(draw.choice(OTHER))
            else:
                things = [pair_name(int(draw.integers(120))) for _ in range(2)]
                forms = (*TEMPLATES[KINDS[label]], *STATED.get(KINDS[label], ()))
                text = str(draw.choice(forms)).format(x=things[0], y=things[1].split()[1])
                if KINDS[label] == "order" and draw.random() < 0.5:
                    named = [pair_name(int(k)) for k in draw.integers(120, size=int(draw.integers(2, 6)))]
                    text = f"{text.rstrip('?')}: {', '.join(named)}?"
            words = text.split()
            kept = [word for word in words if draw.random() > 0.1 or word.strip("?") in (*THINGS, *COLOUR_WORDS)]
            texts.append(" ".join(kept) or text)
            labels.append(label)
        loss = F.cross_entropy(head.kinds(texts), torch.tensor(labels))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


@torch.no_grad()
def accuracy(head: HouseHead, data: list[Example]) -> dict[str, float]:
    """Return the share of right answers per kind, with the tokens and without any."""
    nothing = torch.zeros(0, WIDTH), torch.zeros(0, 2)
    out: dict[str, float] = {}
    for kind in KINDS:
        part = [example for example in data if example[0].kind == kind]
        if part:
            right = [int(head(q, tokens, times).argmax()) == answer for q, tokens, times, answer, _ in part]
            blind = [int(head(q, *nothing).argmax()) == answer for q, _, _, answer, _ in part]
            out |= {kind: float(np.mean(right)), f"{kind}_blind": float(np.mean(blind)), f"{kind}_chance": CHANCE[kind]}
    return out


def main(words: Sequence[str] | None = None) -> None:
    """Train and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"short": 12, "middle": 6, "long": 3, "longest": 5, "each": 3, "epochs": 3, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--encoder", type=Path, default=None, help="other weights of the encoder")
    parser.add_argument("--cache", type=Path, default=None, help="folder for the tokens of streams")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    from safetensors.torch import save

    net, head = load_net(given.encoder), HouseHead()
    train_kinds(head, 300, given.seed)
    counts = {name: getattr(given, name) for name in SIZES}
    # other streams than those of the encoder: its tokens are worse on what it was not trained on
    data = examples(net, counts, "train", given.seed + 50, given.each, given.cache, TRAIN)
    print(len(data), "examples", flush=True)
    train(head, data, given.epochs, given.rate, given.seed)
    head.eval()
    atomic_write_bytes(given.out, save({name: value.contiguous() for name, value in head.state_dict().items()}))
    test = examples(net, {"short": 4, "middle": 3, "long": 1}, "test", given.seed + 60, given.each, given.cache)
    print(json.dumps({name: round(value, 3) for name, value in accuracy(head, test).items()}))


if __name__ == "__main__":
    main()
