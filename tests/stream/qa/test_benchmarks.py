"""Every benchmark reads its format, refuses others with one line, and scores strictly; official scores keep quirks."""

import importlib.util
import json
from pathlib import Path

import pytest

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import Answer
from embodied_mem.stream.answerers.choices import find_choice
from embodied_mem.stream.qa.benchmark import make_benchmark
from embodied_mem.stream.qa.judges import make_judge

_spec = importlib.util.spec_from_file_location("qa_files", Path(__file__).with_name("files.py"))
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)

JUDGE = make_judge("f1")


def load(name, folder):
    return make_benchmark(name).load(files.ALL[name](folder))


def mark(name, sample, text):
    choice, parsed_by = find_choice(text, sample.options) if sample.options else (None, "")
    return make_benchmark(name).mark(sample, Answer(text, choice, parsed_by), JUDGE)


def official(name, sample, text):
    return make_benchmark(name).official(sample, text or None, JUDGE).score


def test_every_benchmark_has_a_file_here():
    assert set(files.ALL) == set(registry.names("benchmark"))


EXPECTED = {
    # answers in order, and times in order
    "streamingbench": ([2, 0, "go"], [3, 5, 1]),
    "ovobench": ([1, 0, 1, "no", "yes", "no", "yes"], [4, 2.5, 2, 1, 3, 2, 5]),
    "mlvu": ([1, -1, "a red cup falls"], [None] * 3),
    "egoschema": ([3, 0], [None] * 2),
    "videomme": ([1, 3, 0], [None] * 3),
    "lvbench": ([0, 1, 3], [None] * 3),
    "mvbench": ([1, 0, 2], [4, None, None]),
    "nextqa": ([0, 4, 2], [None] * 3),
    "vstreamqa": (["a red cup", "a dog", 1], [None, 3, None]),
    "moviechat": (["a dog", "a cup", "a dog"], [None, 3, None]),
    "openeqa": (["on the table", "red", "a cup"], [None] * 3),
    "egolifeqa": ([1, 0, 3], [4, 86400 + 3723.5, 5]),
    "egomem": ([0, 2, 3], [None] * 3),
    "egotempo": (["2."] * 3, [None] * 3),
    "vsibench": ([4.0, 0, 1], [None] * 3),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_format_is_read(name, tmp_path):
    samples = load(name, tmp_path)
    answers, times = EXPECTED[name]
    assert [sample.answer for sample in samples] == answers
    assert [sample.ask_time_s for sample in samples] == times
    assert len({sample.qid for sample in samples}) == len(samples)
    for sample in samples:
        assert not any(str(option).startswith(("A.", "(A)")) for option in sample.options or ())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_another_format_is_refused_in_one_line(name, tmp_path):
    file = tmp_path / ("x.csv" if name == "nextqa" else "x.json")
    for text in ("", "[]", '[{"foo": 1}]', '{"foo": 1}', "foo,bar\n1,2\n"):
        file.write_text(text)
        with pytest.raises(UsageError) as caught:
            make_benchmark(name).load(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        make_benchmark(name).load(tmp_path / "nothing.json")


def test_what_only_some_formats_say(tmp_path):
    crr = [s for s in load("ovobench", tmp_path) if s.task == "CRR"]
    assert crr[0].evidence == () and crr[1].evidence == ((3, 3),), "a clue is evidence once it was there"
    assert [s.evidence for s in load("lvbench", tmp_path)] == [((1, 3),), ((4, 4),), ((0, 5),)]
    assert (
        load("lvbench", tmp_path)[0].labels == ("ER", "TG") and load("lvbench", tmp_path)[0].question == "What is it?"
    )
    assert [s.evidence for s in load("egolifeqa", tmp_path)] == [((2.5, 2.5),), ((1, 1),), ()], "never the future"
    assert load("openeqa", tmp_path)[1].answers_extra == ("crimson",)
    assert [s.task for s in load("nextqa", tmp_path)] == ["CW", "TN", "DO"], "TP counts as TN"
    assert load("mvbench", tmp_path)[0].meta["start_s"] == 1.0
    assert make_benchmark("vsibench").group("object_rel_direction_hard") == "object_rel_direction"


def test_sequential_questions_come_with_those_before_them(tmp_path):
    questions = [
        {"task_type": "Sequential Question Answering", "question": f"q{n}", "time_stamp": f"00:00:0{n}", "answer": "B",
         "options": ["w", "x", "y", "z"]}
        for n in range(2)
    ]  # fmt: skip
    nested = [[{"video_path": "a", "questions": [question]} for question in questions]]
    benchmark = make_benchmark("streamingbench")
    first, second = benchmark.load(files.write(tmp_path / "sqa.json", nested))
    assert benchmark.prompt(first) == "q0"
    assert benchmark.prompt(second) == "Asked at 0 s: q0 Right answer: x\nq1"


def test_strict_scores_and_their_quirky_counterparts(tmp_path):
    choice, _, proactive = load("streamingbench", tmp_path)
    assert mark("streamingbench", choice, "The answer is C").score == 1
    assert official("streamingbench", choice, "The answer is C") == 0, "the first character is T"
    assert mark("streamingbench", choice, "").score == 0 and official("streamingbench", choice, "") is None
    assert mark("streamingbench", proactive, "I say: Go!").score == 1
    assert official("streamingbench", proactive, "Go!") == 0

    epm, ocr, rec, ssr = load("ovobench", tmp_path)[:4]
    assert mark("ovobench", ocr, "Answer: B").score == 0 and official("ovobench", ocr, "Answer: B") == 1
    assert mark("ovobench", epm, "Answer: B").score == 1
    assert mark("ovobench", rec, "1 of 3").score == 0 and mark("ovobench", rec, "one").score == 1
    assert official("ovobench", rec, "1 of 3") == 0 and official("ovobench", rec, "1 time") == 1
    assert mark("ovobench", ssr, "no").score == 1 and mark("ovobench", ssr, "Nothing").score == 0
    assert official("ovobench", ssr, "Nothing") == 1, "the No of Nothing"
    assert official("ovobench", ssr, "N") == 1 and official("ovobench", ssr, "no") == 0

    plot, hopeless, _ = load("mlvu", tmp_path)
    assert official("mlvu", plot, "(B) green") == 1 and official("mlvu", plot, "The answer is B") == 0
    assert all(mark("mlvu", hopeless, text).score == 0 for text in ("A", "B", "")), "no option is right"
    assert all(official("mlvu", hopeless, text) == 0 for text in ("A", "(B)", ""))

    video = load("videomme", tmp_path)[2]
    assert mark("videomme", video, "Because it is so").score == 0
    assert official("videomme", load("videomme", tmp_path)[0], "Because it is so") == 1, "B of Because"
    assert official("lvbench", load("lvbench", tmp_path)[0], "A.") == 0
    assert official("lvbench", load("lvbench", tmp_path)[0], "") is None
    first = load("mvbench", tmp_path)[0]
    assert official("mvbench", first, "(b) A") == 1 and official("mvbench", first, "b") == 1
    assert official("mvbench", first, "The answer is b") == 0 and official("mvbench", first, "") == 0
    number, easy, _ = load("vsibench", tmp_path)
    assert official("vsibench", number, "4.") == 1 and official("vsibench", number, "about 4") == 0
    assert mark("vsibench", number, "about 4").score == 1 and mark("vsibench", number, "4 or 5").score == 0
    assert official("vsibench", easy, "a.") == 1
    for name in ("nextqa", "egoschema"):
        sample = load(name, tmp_path)[0]
        assert official(name, sample, f" {sample.answer} ") == 1 and official(name, sample, "ABCDE"[sample.answer]) == 0
        assert mark(name, sample, "ABCDE"[sample.answer]).score == 1 and official(name, sample, "") == 0


def test_open_answers_go_to_the_judge(tmp_path):
    cup = load("openeqa", tmp_path)[1]
    assert mark("openeqa", cup, "crimson").score == 1 and mark("openeqa", cup, "").score == 0
    benchmark = make_benchmark("openeqa")
    grades = make_judge("model:scripted", {"replies": ["1", "3", "5", "nonsense"]})
    scores = [benchmark.judged_mark(cup, "red", grades).score for _ in range(4)]
    assert sum(scores[:3]) / 3 == 0.5 and scores[3] == 0
    assert benchmark.official(cup, None, JUDGE).score == 0
    film = load("vstreamqa", tmp_path)[0]
    judge = make_judge("model:scripted", {"replies": ["yes 4", "no 1", "perhaps"]})
    assert [make_benchmark("vstreamqa").judged_mark(film, "cup", judge).score for _ in range(3)] == [1, 0, 0]
    clip = load("egotempo", tmp_path)[0]
    judge = make_judge("model:scripted", {"replies": ["yes 5", "no 0"]})
    assert [make_benchmark("egotempo").official(clip, said, judge).score for said in ("two", None)] == [1, 0]
    story = load("mlvu", tmp_path)[2]
    judge = make_judge("model:scripted", {"replies": ["5", "3"]})
    assert make_benchmark("mlvu").judged_mark(story, "a cup", judge).score == pytest.approx((5 + 3 - 2) / 8)
    with pytest.raises(UsageError, match="did you mean 'exact'"):
        make_judge("exactt")


def test_official_is_refused_where_nothing_is_published(tmp_path):
    for name in registry.names("benchmark"):
        benchmark = make_benchmark(name)
        if benchmark.official_rule is None:
            with pytest.raises(UsageError, match="no rule"):
                benchmark.official(load(name, tmp_path)[0], "A", JUDGE)
    rules = {name for name in registry.names("benchmark") if make_benchmark(name).official_rule}
    assert set(registry.names("benchmark")) - rules == {"egolifeqa", "egomem"}


def test_a_question_twice_is_refused(tmp_path):
    file = files.egomem(tmp_path)
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([*rows, rows[0]]))
    with pytest.raises(UsageError, match="twice"):
        make_benchmark("egomem").load(file)
