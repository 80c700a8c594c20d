"""Video benchmarks: averages, intervals over videos, baselines beside the memory, records that resume, the command."""

import json

import cv2
import numpy as np
import pytest

from embodied_mem.cli.app import run
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.video_qa import evaluate_video
from embodied_mem.evaluation.video_scores import over_questions, question_mean, summarise_questions
from embodied_mem.stream.answerers.base import Answer, Answerer, AnswererError, Capabilities, ImagePart
from embodied_mem.stream.answerers.plain import NoConfig
from embodied_mem.stream.qa.benchmark import make_benchmark
from embodied_mem.stream.qa.run import RunConfig

LEVELS = (20, 90, 160, 230)


def row(video, task, score, qid, **more):
    row = {"video_id": video, "task": task, "score": score, "qid": qid, "labels": [], "unparsed": score == 0}
    row |= {"latency_ms": {"retrieve": 1.0, "answer": 2.0}, "mem_bytes": 10, "mem_tokens": 1, "images": 0}
    return row | {"frames_dropped": 0, **more}


def test_the_mean_of_groups_is_not_the_mean_of_questions():
    rows = [row("a", "EPM", 1.0, str(n)) for n in range(6)] + [row("b", "ASI", 0.0, "6"), row("c", "OCR", 0.0, "7")]
    rows += [row("d", "REC", 1.0, "8"), row("d", "CRR", 0.5, "9")]
    found = summarise_questions(rows, make_benchmark("ovobench"))
    assert found["group: backward"]["mean"] == 0.5 and found["group: forward"]["mean"] == 0.75
    assert found["success"]["mean"] == pytest.approx((0.5 + 0 + 0.75) / 3)
    assert found["accuracy"]["mean"] == 0.75 and found["unparsed"]["mean"] == 0.2


def test_left_out_questions_and_tasks_apart():
    rows = [row("a", "plotQA", 1.0, "0"), row("b", "count", 0.0, "1"), row("c", "summary", 0.25, "2")]
    found = summarise_questions(rows, make_benchmark("mlvu"))
    assert (found["success"]["mean"], found["group: G-Avg"]["mean"], found["accuracy"]["n"]) == (0.5, 0.25, 3)
    dropped = summarise_questions([*rows, row("d", "count", None, "3")], make_benchmark("mlvu"))
    assert dropped["success"] == found["success"]


def test_intervals_resample_videos_not_questions():
    average = over_questions
    spread = [row(f"v{n}", "t", float(n % 2), str(n)) for n in range(40)]
    lumped = [row(f"v{n % 2}", "t", float(n % 2), str(n)) for n in range(40)]
    one, other = question_mean(spread, average), question_mean(lumped, average)
    assert one["mean"] == other["mean"] == 0.5 and one["interval"] == "bootstrap95_videos"
    assert 0.3 < one["low"] < 0.4 and 0.6 < one["high"] < 0.7 and (other["low"], other["high"]) == (0, 1)
    assert question_mean(lumped[::2], average)["low"] is None, "one video has no interval"
    sure = question_mean([row(f"v{n}", "t", 1.0, str(n)) for n in range(6)], over_questions)
    assert sure["high"] == 1 and sure["low"] == pytest.approx(0.61, abs=0.01), "six of six is not certainty"


def test_labels_and_paired_differences():
    benchmark = make_benchmark("lvbench")
    agent = [row(f"v{n}", "tv", float(n != 0), str(n), labels=["ER", "TG"][: n % 2 + 1]) for n in range(4)]
    control = [row(f"v{n}", "tv", 0.0, str(n)) for n in range(1, 4)]
    assert summarise_questions(agent, benchmark)["label: TG"]["n"] == 2
    drop = summarise_questions(control, benchmark, agent)["success_drop"]
    assert (drop["mean"], drop["n"], drop["interval"]) == (1.0, 3, "paired_bootstrap95_videos")


class Greys(Answerer):
    """Chooses the option that is the grey of the earliest frame it sees; fails at the request ``fail``."""

    Config = NoConfig
    capabilities = Capabilities(images=True, max_images=99)

    def __init__(self, fail=None):
        super().__init__(NoConfig())
        self.calls, self.fail = 0, fail

    def reply(self, request):
        self.calls += 1
        if self.calls == self.fail:
            raise AnswererError("the server is gone")
        frames = [part for part in request.context if isinstance(part, ImagePart)]
        return Answer(f"{frames[0].rgb.mean():.0f}" if frames else "who knows")


@pytest.fixture
def data(tmp_path):
    """Three clips of four greys; what the first one was is asked at the end, with the first second as evidence."""
    for clip in range(3):
        folder = tmp_path / "videos" / f"clip{clip}"
        folder.mkdir(parents=True)
        for second, grey in enumerate(np.roll(LEVELS, clip)):
            cv2.imwrite(str(folder / f"{second}.png"), np.full((8, 8, 3), grey, np.uint8))
    text = "What came first?\n" + "\n".join(f"({letter}) {grey}" for letter, grey in zip("ABCD", LEVELS))
    lines = [
        {
            "key": f"clip{clip}",
            "type": "toy",
            "qa": [
                {
                    "uid": f"{clip}-{n}",
                    "question": text,
                    "answer": "ADC"[clip],
                    "question_type": ["ER"],
                    "time_reference": "00:00-00:00",
                }
                for n in range(2)
            ],
        }
        for clip in range(3)
    ]
    (tmp_path / "lv.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def evaluate(data, answerer=None, memory="full_history", **more):
    config = RunConfig(memory=memory, budget=None, **more.pop("run", {}))
    return evaluate_video(
        "video:lvbench", data / "lv.jsonl", data / "videos", answerer=answerer or Greys(), config=config, **more
    )


def test_a_memory_stands_beside_its_baselines(data, tmp_path):
    seen = []
    result = evaluate(data, controls=True, out=tmp_path / "run", progress=lambda *step: seen.append(step))
    means = {name: metrics["success"]["mean"] for name, metrics in result["controls"].items()}
    assert result["metrics"]["success"]["mean"] == 1
    assert means == {"blind": 0, "last_frame": 0, "uniform": 1, "oracle": 1}
    assert result["controls"]["blind"]["success_drop"]["mean"] == 1
    assert result["controls"]["blind"]["unparsed"]["mean"] == 1 and result["metrics"]["hit"]["mean"] == 1
    assert result["metrics"]["mem_bytes"]["mean"] > result["controls"]["last_frame"]["mem_bytes"]["mean"] == 8 * 8 * 3
    assert seen[-1][:2] == (30, 30) and result["episodes"] == 6 and result["config"]["recall"] == "overview"
    rows = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 30 and {"qid", "pred", "score", "latency_ms", "parsed_by"} <= set(rows[0])
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"] == result["metrics"]
    forgetful = evaluate(data, memory="last_k", controls=["oracle"])
    assert forgetful["metrics"]["success"]["mean"] == 1, "64 slots hold the clip"
    one = evaluate_video(
        "lvbench", data / "lv.jsonl", data / "videos", answerer=Greys(),
        config=RunConfig(memory="last_k", memory_config={"slots": 1}), tasks=["toy"], questions=3,
    )  # fmt: skip
    assert one["metrics"]["success"]["mean"] == 0 and one["episodes"] == 3


def test_a_run_that_broke_off_goes_on_and_ends_the_same(data, tmp_path):
    with pytest.raises(AnswererError, match="gone"):
        evaluate(data, Greys(fail=4), out=tmp_path / "run")
    assert len((tmp_path / "run" / "episodes.jsonl").read_text().splitlines()) == 3
    with pytest.raises(UsageError, match="--resume"):
        evaluate(data, out=tmp_path / "run")
    again = Greys()
    result = evaluate(data, again, out=tmp_path / "run", resume=True)
    assert again.calls == 4, "the finished stream is not asked again"
    whole = evaluate(data)
    assert result["metrics"]["success"] == whole["metrics"]["success"] and result["episodes"] == 6
    with pytest.raises(UsageError, match="memory"):
        evaluate(data, memory="none", out=tmp_path / "run", resume=True)


def test_bad_input_is_refused_before_anything_is_asked(data):
    greys = Greys()
    with pytest.raises(UsageError, match="did you mean 'lvbench'"):
        evaluate_video("video:lvbenhc", data / "lv.jsonl", data / "videos", answerer=greys)
    with pytest.raises(UsageError, match="no task 'tou'"):
        evaluate(data, greys, tasks=["tou"])
    with pytest.raises(UsageError, match="unknown baseline"):
        evaluate(data, greys, controls=["blnd"])
    (data / "videos" / "clip2").rename(data / "videos" / "gone")
    with pytest.raises(UsageError, match=r"'clip2'.*1 videos are missing"):
        evaluate(data, greys)
    row = {
        "videoID": "clip0",
        "question_id": "0",
        "type": "Event",
        "question": "q",
        "options": ["x", "y"],
        "answer": "A",
    }
    (data / "ego.json").write_text(json.dumps([row]))
    with pytest.raises(UsageError, match="no rule"):
        evaluate_video("egomem", data / "ego.json", data / "videos", config=RunConfig(official=True))
    assert greys.calls == 0


def test_the_command(data, tmp_path, capsys):
    where = ["--data", str(data / "lv.jsonl"), "--videos", str(data / "videos")]
    options = ["--answerer", "rule", "--memory", "last_k", "--memory-option", "slots=2", "--fps", "2", "--official"]
    out = ["--out", str(tmp_path / "run")]
    assert run(["eval", "video:lvbench", *where, *options, "--controls", *out, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "video:lvbench" and result["config"]["run"]["memory_config"] == {"slots": 2}
    assert result["config"]["run"]["fps"] == 2 and any("official" in note for note in result["notes"])
    assert set(result["controls"]) == {"blind", "last_frame", "uniform", "oracle"}
    assert run(["eval", "video:lvbench", *where, "--out", str(tmp_path / "second"), "--episodes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "milliseconds of a frame" in shown and "encode" in shown
    assert "answer ms" in shown and "bytes" in shown and "unparsed" in shown and "label: ER" in shown
    assert run(["view", str(tmp_path / "run")]) == 0
    for arguments, reason in (
        ([], "expected --data"),
        ([*where, "--seeds", "1"], "--seeds has no meaning"),
        ([*where, "--mode", "cheat"], "expected a mode"),
        ([*where, "--answerer", "transformers"], "expected path="),
    ):
        capsys.readouterr()
        assert run(["eval", "video:lvbench", *arguments, "--out", str(tmp_path / "third")]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "third").exists()
    assert run(["list", "benchmarks", "--json"]) == 0
    assert {"lvbench", "openeqa"} <= {item["name"] for item in json.loads(capsys.readouterr().out)}
