"""The transformers answerer on a tiny model of random weights: choices, texts, images, errors."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import AnswererError, ImagePart, Request, TextPart, make_answerer

pytest.importorskip("transformers")
_spec = importlib.util.spec_from_file_location("tiny_model", Path(__file__).with_name("tiny_model.py"))
tiny_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_model)

OPTIONS = ("a cup", "a dog", "nothing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_model.save(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def answerer(folder):
    return make_answerer("transformers", path=folder, device="cpu", max_images=2)


def picture(value, t=1.0):
    return ImagePart(np.full((20, 30, 3), value, np.uint8), t)


def test_options_are_chosen_by_log_probabilities(answerer):
    import torch

    request = Request("What is it?", OPTIONS, (TextPart("someone comes", 0, 1), picture(0), picture(250, 2.0)))
    answer = answerer.answer(request)
    assert answer.parsed_by == "logprobs" and answer.choice == int(np.argmax(answer.logprobs))
    assert answer.text == "ABC"[answer.choice] and len(answer.logprobs) == 3
    # by hand: one forward pass over the same prompt, the letters with and without a space
    processor, model = answerer._loaded
    inputs = answerer._inputs(processor, request)
    assert inputs["pixel_values"].shape[0] == 2
    with torch.no_grad():
        logprobs = torch.log_softmax(model(**inputs).logits[0, -1].float(), 0)
    for letter, found in zip("ABC", answer.logprobs):
        ids = [processor.tokenizer.encode(text, add_special_tokens=False) for text in (letter, f" {letter}")]
        own = [logprobs[pair[0]] for pair in ids if len(pair) == 1]
        assert found == pytest.approx(float(torch.logsumexp(torch.stack(own), 0)), abs=1e-4)
    assert sum(map(math.exp, answer.logprobs)) < 1
    prompt = processor.tokenizer.decode(inputs["input_ids"][0])
    assert "[0.00-1.00 s] someone comes[frame at 1.00 s]" in prompt and "B. a dog" in prompt
    assert prompt.index("frame at 1.00") < prompt.index("frame at 2.00") < prompt.index("What is it?")


def test_what_is_seen_changes_the_answer(answerer):
    scores = [answerer.answer(Request("What?", OPTIONS, (picture(value),))).logprobs for value in (0, 255, 0)]
    assert scores[0] == scores[2] and max(abs(a - b) for a, b in zip(scores[0], scores[1])) > 1e-4


def test_open_questions_are_written(answerer):
    answers = [answerer.answer(Request("Who?", context=(picture(9),), max_tokens=5)) for _ in range(2)]
    assert answers[0].text == answers[1].text and answers[0].choice is None
    assert 1 <= answers[0].usage["completion_tokens"] <= 5 and answers[0].usage["prompt_tokens"] > 5
    assert 0 < answers[0].ttft_ms <= answers[0].total_ms
    drawn = {answerer.answer(Request("Who?", max_tokens=5, temperature=1.0, seed=seed)).text for seed in range(4)}
    again = answerer.answer(Request("Who?", max_tokens=5, temperature=1.0, seed=0)).text
    assert len(drawn) > 1 and again in drawn


def test_loading_is_no_part_of_an_answer(folder, tmp_path):
    model = make_answerer("transformers", path=folder, device="cpu")
    assert model._loaded is None
    model.prepare()
    processor, weights = model._loaded
    model.answer(Request("What?", OPTIONS))
    assert model._loaded == (processor, weights) and not any(p.requires_grad for p in weights.parameters())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AnswererError, match="failed"):
        make_answerer("transformers", path=str(tmp_path), device="cpu").prepare()


def test_replies_in_words_may_name_no_option(folder):
    model = make_answerer("transformers", path=folder, device="cpu", choose="text")
    answer = model.answer(Request("What?", OPTIONS, max_tokens=3))
    assert answer.choice is None and answer.parsed_by == "" and answer.logprobs is None


def test_a_template_without_a_system_role_gets_it_in_the_question(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    folder = tiny_model.save(tmp_path, refusing + tiny_model.TEMPLATE)
    model = make_answerer("transformers", path=str(folder), device="cpu")
    request = Request("What?", OPTIONS, system="Be brief.")
    model.answer(request)
    text = model._loaded[0].tokenizer.decode(model._inputs(model._loaded[0], request)["input_ids"][0])
    assert text.startswith("user: Be brief.")


def test_errors_are_one_line(tmp_path, folder):
    with pytest.raises(UsageError, match="expected path=FOLDER"):
        make_answerer("transformers")
    with pytest.raises(UsageError, match="no config.json"):
        make_answerer("transformers", path=str(tmp_path))
    for text in ('{"model_type": "llama"}', "not json"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(AnswererError, match="the model in .* failed") as caught:
            make_answerer("transformers", path=str(tmp_path), device="cpu").answer(Request("What?"))
        assert "\n" not in str(caught.value)
    (tmp_path / "bare").mkdir()
    for file in Path(folder).iterdir():
        if "template" not in file.name:
            (tmp_path / "bare" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(AnswererError, match="no chat template"):
        make_answerer("transformers", path=str(tmp_path / "bare"), device="cpu").answer(Request("What?"))
