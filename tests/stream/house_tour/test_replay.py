import numpy as np
import pytest
import torch

from embodied_mem.perception.house_view import load_net
from embodied_mem.perception.house_words import concepts_of
from embodied_mem.stream.house_tour.questions import ask
from embodied_mem.stream.house_tour.replay import BUDGET, encode_cached, replay
from embodied_mem.stream.house_tour.tours import TourStream
from embodied_mem.stream.memory import make_stream_memory


@pytest.fixture(scope="module")
def questions(tour_log):
    return ask(tour_log, 2, seed=6)


def test_a_question_sees_the_frames_up_to_its_time_and_no_other(perfect_tokens, questions):
    for got in replay(make_stream_memory("full_history"), perfect_tokens, questions):
        assert got.evidence.times[:, 0].tolist() == list(range(int(got.question.ask_s) + 1))
        assert (got.evidence.tokens.numpy() == perfect_tokens[: int(got.question.ask_s) + 1]).all()


def test_recalling_by_question_puts_what_is_asked_first(perfect_tokens, questions):
    memory = make_stream_memory("full_history")
    for got in replay(memory, perfect_tokens, questions, "question"):
        concepts = concepts_of(got.question.text)
        assert 0 < len(got.evidence.tokens) <= BUDGET
        if got.question.subjects and got.question.age is not None:
            assert (got.evidence.tokens.numpy() @ concepts).max() > 0


def test_wiping_forgets_what_was_before(perfect_tokens, questions):
    for got in replay(make_stream_memory("full_history"), perfect_tokens, questions, wipe_s=60):
        assert got.evidence.times.min() == 60 * (int(got.question.ask_s) // 60)


def test_memories_without_entries_give_their_output(perfect_tokens, questions):
    got = list(replay(make_stream_memory("memory:gru"), perfect_tokens[:200], questions[:2]))
    assert all(g.evidence.tokens.shape[0] == 1 for g in got) and np.isfinite(got[0].write_ms)


def test_tokens_are_kept_for_the_next_time(tmp_path):
    net = load_net()
    made, kept = (encode_cached(tmp_path, "a", TourStream(40, seed=2), net) for _ in range(2))
    assert (made.tokens == kept.tokens).all() and (made.log.seen == kept.log.seen).all()
    assert kept.encode_ms == made.encode_ms > 0 and kept.decode_ms == made.decode_ms > 0
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    with torch.no_grad():
        net.kind.bias += 1
    assert (encode_cached(tmp_path, "a", TourStream(40, seed=2), net).tokens != made.tokens).any()
