import pytest
import torch

from embodied_mem.perception.house_words import PAIRS, WALL_WORDS, WIDTH, concepts_of
from embodied_mem.stream.answerers import AnswererError, EmbedPart, Request, make_answerer


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
