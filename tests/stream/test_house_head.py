import numpy as np
import pytest
import torch

from embodied_mem.perception.house_words import PAIRS, WALL_WORDS, WIDTH, concepts_of
from embodied_mem.stream.answerers import AnswererError, EmbedPart, Request, make_answerer
from embodied_mem.stream.asker import Asker
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource
from embodied_mem.stream.standing import StandingQueries


@pytest.fixture(scope="module")
def answerer():
    return make_answerer("house-head")


@pytest.fixture(scope="module")
def part():
    """Ten seconds each: a red bed between blue walls, nothing between pink ones, a green sofa between pink ones."""
    tokens = torch.zeros(30, WIDTH)
    tokens[:10] += torch.from_numpy(concepts_of("red bed"))
    tokens[:10, PAIRS + WALL_WORDS.index("blue")] = 1.0
    tokens[10:, PAIRS + WALL_WORDS.index("pink")] = 1.0
    tokens[20:] += torch.from_numpy(concepts_of("green sofa"))
    return EmbedPart(tokens, torch.arange(30.0, dtype=torch.float64)[:, None].expand(30, 2))


def test_it_chooses_an_option(answerer, part):
    walls = ("grey", "pink", "blue", "red")
    asked = Request("Between walls of which colour was the red bed last seen?", walls, (part,))
    answer = answerer.answer(asked)
    assert answer.text == "blue" and answer.choice == 2 and answer.usage["tokens"] == 30
    assert len(answer.logprobs) == 4 and sum(torch.tensor(answer.logprobs).exp()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    "question, said",
    [
        ("Between walls of which colour was the green sofa last seen?", "pink"),
        ("Was a red bed seen at all?", "yes"),
        ("Was a black fridge seen at all?", "no"),
        ("Between walls of which colour was the white toilet last seen?", "not seen"),
        ("Will it rain tomorrow?", "unknown"),
    ],
)
def test_open_questions_get_words(answerer, part, question, said):
    assert answerer.answer(Request(question, None, (part,))).text == said


def test_when_gives_a_stretch_of_time(answerer, part):
    words = answerer.answer(Request("When was the green sofa last seen?", None, (part,))).text.split()
    start, end = (word for word in words if word.isdigit())
    assert 20 <= float(start) <= float(end) <= 29


def test_without_tokens_it_guesses_or_says_so(answerer):
    assert answerer.answer(Request("Was a red bed seen at all?", ("yes", "no"))).choice in (0, 1)
    assert answerer.answer(Request("When was the red bed last seen?")).text == "not seen"


def test_tokens_of_another_encoder_are_refused(answerer):
    other = EmbedPart(torch.zeros(2, 7), torch.zeros(2, 2))
    with pytest.raises(AnswererError, match="encoder house"):
        answerer.answer(Request("Was a red bed seen at all?", None, (other,)))


@pytest.mark.parametrize("named, first", [(("red bed", "green sofa"), 0), (("green sofa", "red bed"), 1)])
def test_which_came_first_is_chosen_from_those_that_are_named(answerer, part, named, first):
    said = answerer.answer(Request(f"Which of these was seen first: {', '.join(named)}?", None, (part,))).text
    assert said == "red bed" == named[first]
    assert answerer.answer(Request("Which of these was seen first?", None, (part,))).text == "unknown"


@pytest.mark.parametrize("memory", ["full_history", "sparse_events"])
def test_a_standing_question_is_told_when_the_thing_comes_into_view(answerer, part, memory):
    """Thirty seconds without a plant, five with it, thirty without, five with it again: told twice."""

    class ByHand(StandingQueries):
        def _watch(self):
            self._closed.wait()

    source = ArraySource(np.zeros((1, 8, 8, 3), np.uint8), [0.0])
    running = Session(source, SessionConfig(memory=memory, encoder="house", frame_side=0))
    told = []
    standing = ByHand(running, Asker(answerer), told.append, every_s=1.0)
    plant = part.tokens[10] + torch.from_numpy(concepts_of("yellow plant"))
    shown = [*part.tokens, *[plant] * 5, *part.tokens, *[plant] * 5]
    for second, token in enumerate(shown):
        running.memory.write(token[None], float(second))
        if second == 0:
            standing.add("you see a yellow plant")
        standing.check()
    standing.close()
    assert len(told) == 2 and not standing.reports
    assert 30 <= told[0].at_s <= 32 and 65 <= told[1].at_s <= 67
