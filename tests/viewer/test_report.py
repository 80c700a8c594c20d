"""The report: one file that loads nothing, with every part that the files allow, and a word where one is missing."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.files import append_jsonl, atomic_write_json
from embodied_mem.viewer import write_report
from embodied_mem.viewer.load import find_runs

VOID = {"meta", "img", "input", "br", "hr", "link"}


class Checker(HTMLParser):
    """Collects tags and text, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.words, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def parse(path):
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert not checker.open, f"not closed: {checker.open}"
    return checker


@pytest.fixture(scope="module")
def page(run_folder):
    return parse(write_report(run_folder))


def test_the_page_loads_nothing(page, run_folder):
    text = (run_folder / "report.html").read_text()
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "action", "data")]
    assert sources and all(value.startswith("data:") for value in sources)
    assert not re.search(r"url\((?!data:)", text) and "@import" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_part_is_there(page):
    for words in ("Return while training", "Evaluation: probes", "not run: the agent keeps no local", "More curves"):
        assert words in page.text
    assert {"svg", "table", "image", "article"} <= set(page.tags)
    classes = " ".join(str(value) for _, name, value in page.attributes if name == "class")
    for name in ("band", "line", "map", "wall", "marker", "view", "tracks", "playhead", "strip", "forest", "chance"):
        assert name in classes.split(), name


def test_names_from_files_are_escaped(page):
    assert "maze & co" in page.text and "find the <key>" in page.text and "two rooms <b>" in page.text


def test_the_slider_knows_every_step(page):
    cards = [json.loads(value) for _, name, value in page.attributes if name == "data-episode"]
    house = next(card for card in cards if card["total"] == 14 and card["reads"])
    assert len(house["xz"]) == len(house["action"]) == len(house["reward"]) == len(house["frame"]) == 14
    assert (
        house["xz"][0] == [0.5, -2.0] and house["phase"][5] == "wait" and set(house["action"]) <= {"MoveAhead", "Turn"}
    )
    assert all(past <= step for step, pairs in enumerate(house["reads"]) for past, _ in pairs)


def test_a_metric_without_figures_has_no_panel(page):
    assert "Success while training" not in page.text


def test_missing_pieces_are_left_out_with_a_word(tmp_path):
    append_jsonl(tmp_path / "seed0" / "metrics.jsonl", {"iteration": 1, "env_steps": 10, "return_mean": 0.0})
    page = parse(write_report(tmp_path, tmp_path / "deep" / "page.html"))
    assert "No curve yet" in page.text and "Nothing here was evaluated yet" in page.text
    assert "not finished" in page.text


def test_an_unfinished_evaluation_says_so(tmp_path):
    append_jsonl(tmp_path / "episodes.jsonl", {"condition": "agent"})
    atomic_write_json(tmp_path / "config.json", {"suite": "probes"})
    assert "Not finished: 1 episode on record" in parse(write_report(tmp_path)).text


def test_broken_files_become_a_line_not_a_failure(run_folder, tmp_path):
    atomic_write_json(tmp_path / "config.json", {"suite": "probes"})
    (tmp_path / "episodes.jsonl").write_text("{}\n")
    (tmp_path / "result.json").write_text("{broken")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "x.json").write_text("{}")
    (tmp_path / "traces" / "x.npz").write_bytes(b"no archive")
    found = find_runs(tmp_path)
    assert found.evaluations[0].result is None and len(found.warnings) == 2
    assert "Files that could not be read" in parse(write_report(tmp_path)).text


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_folder_without_a_run_is_refused(tmp_path, kind):
    with pytest.raises(UsageError, match="found none|holds no run"):
        write_report(tmp_path / "nowhere" if kind == "missing" else tmp_path)


def test_single_seed_folders_can_be_viewed(run_folder):
    found = find_runs(run_folder / "train" / "memory" / "seed1")
    assert list(found.training[0].seeds) == ["seed1"] and len(found.training[0].seeds["seed1"]) == 20


def test_shards_and_checkpoints_are_not_runs(tmp_path):
    for place in ("shard-0-of-2", "checkpoints", ".hidden"):
        append_jsonl(tmp_path / place / "episodes.jsonl", {"condition": "agent"})
    append_jsonl(tmp_path / "episodes.jsonl", {"condition": "agent"})
    assert len(find_runs(tmp_path).evaluations) == 1


def test_episodes_without_pictures_or_arrays(tmp_path, run_folder):
    from embodied_mem.viewer.episode import episode_card
    from embodied_mem.viewer.load import Trace

    facts = find_runs(run_folder).evaluations[0].traces[0].facts
    bare = Trace(facts, {"reward": np.zeros(3), "action": np.zeros((3, 2), np.float32), "frame_steps": np.arange(3)})
    assert "No map and no pictures" in episode_card(bare) and "was not recorded" in episode_card(bare)
    mapped = Trace({**facts, "map_end": {"bounds": [0, 0, 1, 1]}}, bare.arrays)
    assert "No picture was recorded" in episode_card(mapped)
    assert "arrays of this trace are missing" in episode_card(Trace(facts, {}))


def test_of_every_task_a_success_and_a_failure_are_shown():
    from embodied_mem.viewer.load import Trace
    from embodied_mem.viewer.report import _shown

    def traced(task, number, success, condition="agent"):
        record = {"task": task, "episode": number, "condition": condition, "metrics": {"success": success}}
        return Trace({"record": record}, {})

    groups = {
        ("a", 0): [traced("a", 0, 1.0), traced("a", 0, 0.0, "none")],
        ("a", 1): [traced("a", 1, 1.0)],
        ("a", 7): [traced("a", 7, 0.0)],
        ("b", 0): [traced("b", 0, 1.0)],
        ("b", 1): [traced("b", 1, 1.0)],
        ("b", 2): [traced("b", 2, 1.0)],
    }
    assert _shown(groups) == [("a", 0), ("a", 7), ("b", 0), ("b", 1)]


def test_a_view_that_could_not_be_drawn_says_why(run_folder):
    from embodied_mem.viewer.episode import episode_card
    from embodied_mem.viewer.load import Trace

    trace = find_runs(run_folder).evaluations[0].traces[0]
    arrays = {name: value for name, value in trace.arrays.items() if name not in ("rgb", "depth")}
    facts = {**trace.facts, "no_view": "cannot draw <pictures>"}
    assert "of this one: cannot draw &lt;pictures&gt;." in episode_card(Trace(facts, arrays))
    house = {**facts, "map_end": {"width": 2, "height": 2, "walls": [[1, 1], [1, 1]]}}
    assert "cannot draw &lt;pictures&gt;." in episode_card(Trace(house, arrays))
