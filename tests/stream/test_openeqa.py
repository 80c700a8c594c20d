import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.stream.house_tour.questions import Question
from embodied_mem.stream.openeqa import CATEGORIES, export_history, export_questions
from embodied_mem.stream.sources import open_source

KNOWN = {
    "object recognition", "attribute recognition", "object state recognition", "object localization",
    "spatial understanding", "functional reasoning", "world knowledge",
}  # fmt: skip


def frames(count=4):
    draw = np.random.default_rng(0)
    return [(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8), 0.5 * t) for t in range(count)]


def test_frames_come_back_with_their_times(tmp_path):
    history = export_history(frames(), tmp_path, "000-walk")
    assert history == "house-tour-v0/000-walk"
    with open_source(str(tmp_path / "frames" / history)) as source:
        back = list(source)
    assert [f.t_s for f in back] == [0.0, 0.5, 1.0, 1.5]
    assert all((f.rgb == rgb).all() for f, (rgb, _) in zip(back, frames()))


def test_questions_have_the_fields_of_openeqa(tmp_path):
    asked = [
        Question("last", "Where was it?", ("red", "blue"), 1, 7.0, (1.0, 2.0), 0.5),
        Question("order", "Which was first?", ("a bed", "a sofa"), 0, 9.0, (1.0, 2.0), 0.5),
    ]
    rows = export_questions(asked, "house-tour-v0/000-walk", tmp_path)
    assert read_json(tmp_path / "questions.json") == rows
    assert rows[0]["answer"] == "blue" and rows[0]["frames"] == 8 and rows[0]["question"] == "Where was it?"
    assert rows[1]["question"] == "Which was first? (a bed, a sofa)"
    assert {"question", "answer", "category", "question_id", "episode_history"} < set(rows[0])
    assert len({row["question_id"] for row in rows}) == 2 and set(CATEGORIES.values()) <= KNOWN
    assert rows == export_questions(asked, "house-tour-v0/000-walk", tmp_path)


def test_wrong_episodes_are_refused(tmp_path):
    export_history(frames(), tmp_path, "a")
    for name, some in (("a", frames()), ("b/c", frames()), ("..", frames()), ("d", [])):
        with pytest.raises(UsageError):
            export_history(some, tmp_path, name)
