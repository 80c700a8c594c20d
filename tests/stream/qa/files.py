"""Made-up annotation files, three rows each, in the formats of the benchmarks; nothing in them is anybody's data."""

import csv
import json


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


OPTIONS = ["A. red", "B. green", "C. blue", "D. grey"]


def streamingbench(folder):
    def ask(question, at, answer, **more):
        return {"task_type": "Counting", "question": question, "time_stamp": at, "answer": answer, **more}

    return write(
        folder / "real.json",
        [
            {"video_path": "./a.mkv", "questions": [ask("q0", "00:00:03", "C", options=OPTIONS)]},
            {
                "video_path": "./b.mkv",
                "questions": [
                    ask("q1", "00:00:05", "A", options=["red", "green", "blue", "grey"]),
                    {
                        "task_type": "Proactive Output",
                        "question": 'When it is green, output "go".',
                        "time_stamp": "00:00:01",
                        "ground_truth_time_stamp": "00:00:04",
                        "ground_truth_output": "go",
                    },
                ],
            },
        ],
    )


def ovobench(folder):
    base = {"video": "a.mkv", "question": "what?", "options": ["cup", "dog", "Unable to answer"]}
    return write(
        folder / "ovo.json",
        [
            {"id": 1, "task": "EPM", "realtime": 4, "gt": 1, **base},
            {"id": 2, "task": "OCR", "realtime": 2.5, "gt": 0, **base},
            {"id": 3, "task": "REC", "video": "b.mkv", "activity": "jumps", "test_info": [{"realtime": 2, "count": 1}]},
            {
                "id": 4,
                "task": "SSR",
                "video": "b.mkv",
                "tutorial": "tea",
                "test_info": [{"realtime": 1, "step": "pour", "type": 0}, {"realtime": 3, "step": "pour", "type": 1}],
            },
            {
                "id": 5,
                "task": "CRR",
                "video": "b.mkv",
                "question": "who comes?",
                "ask_time": 1,
                "clue_time": 3,
                "test_info": [{"realtime": 2, "type": 0}, {"realtime": 5, "type": 1}],
            },
        ],
    )


def mlvu(folder):
    base = {"video": "a.mkv", "duration": 6.0}
    choice = {"candidates": ["red", "green"], **base}
    write(
        folder / "mlvu" / "1_plotQA.json",
        [
            {"question": "q0", "answer": "green", "question_type": "plotQA", **choice},
            {"question": "q1", "answer": "none of them", "question_type": "plotQA", **choice},
        ],
    )
    summary = {"question": "q2", "answer": "a red cup falls", "question_type": "summary", **base}
    write(folder / "mlvu" / "9_summary.json", [summary])
    return folder / "mlvu"


def egoschema(folder):
    rows = [
        {"q_uid": f"u{n}", "google_drive_id": "x", "question": "why?", **{f"option {i}": f"o{i}" for i in range(5)}}
        for n in range(3)
    ]
    write(folder / "ego" / "subset_answers.json", {"u0": 3, "u2": 0})
    write(folder / "ego" / "questions.json", rows)
    return folder / "ego"


def videomme(folder):
    def entry(video, duration, answer):
        question = {
            "question_id": f"{video}-1",
            "task_type": "Counting",
            "question": "q",
            "options": OPTIONS,
            "answer": answer,
        }
        return {"video_id": video, "duration": duration, "domain": "Art", "sub_category": "x", "questions": [question]}

    rows = [entry("001", "short", "B"), entry("002", "long", "D"), entry("003", "short", "A")]
    return write(folder / "mme.json", rows)


def lvbench(folder):
    def qa(uid, answer, time):
        text = "What is it?\n(A) red\n(B) green\n(C) blue\n(D) grey"
        return {"uid": uid, "question": text, "answer": answer, "question_type": ["ER", "TG"], "time_reference": time}

    return lines(
        folder / "lv.jsonl",
        [
            {"key": "a", "type": "tv", "qa": [qa("1", "A", "00:01-00:03"), qa("2", "B", "00:04")]},
            {"key": "b", "type": "live", "qa": [qa("3", "D", "00:00-00:05")]},
        ],
    )


def mvbench(folder):
    base = {"video": "a.mkv", "question": "q", "candidates": ["B", "A", "C"]}
    write(folder / "mv" / "action_sequence.json", [{**base, "answer": "A", "start": 1.0, "end": 4.0}])
    write(folder / "mv" / "object_count.json", [{**base, "answer": "B"}, {**base, "answer": "C"}])
    return folder / "mv"


def nextqa(folder):
    names = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type"]
    names += [f"a{n}" for n in range(5)]
    with open(folder / "val.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(names)
        for qid, (answer, kind) in enumerate([(0, "CW"), (4, "TP"), (2, "DO")]):
            table.writerow(["a", 9, 4, 4, "why, then?", answer, qid, kind, "v", "w", "x", "y", "z"])
    return folder / "val.csv"


def vstreamqa(folder):
    base = {"video_id": "a", "question": "what?", "answer_type": "action", "duration": 6}
    choice = {"question": "Which?\n(A) red\n(B) green", "answer": 1}
    return write(
        folder / "test_qa.json",
        [
            {**base, "id": "0", "answer": "a red cup"},
            {**base, "id": "1", "answer": "a dog", "end_time": 3},
            {**base, "id": "2", **choice},
        ],
    )


def moviechat(folder):
    entry = {
        "info": {"video_path": "a.mkv", "fps": 2, "num_frame": 12},
        "caption": "c",
        "global": [{"question": "who?", "answer": "a dog"}],
        "breakpoint": [{"question": "now?", "answer": "a cup", "time": 7}],
    }
    write(folder / "mc" / "one.json", entry)
    write(folder / "mc" / "two.json", {**entry, "breakpoint": []})
    return folder / "mc"


def openeqa(folder):
    base = {"episode_history": "hm3d-v0/000-x", "question": "where?"}
    return write(
        folder / "oe.json",
        [
            {**base, "question_id": "0", "answer": "on the table", "category": "object localization"},
            {
                **base,
                "question_id": "1",
                "answer": "red",
                "category": "attribute recognition",
                "extra_answers": ["crimson"],
            },
            {**base, "question_id": "2", "answer": "a cup", "category": "object recognition"},
        ],
    )


def egolifeqa(folder):
    def row(number, day, clock, answer, target):
        choices = {f"choice_{letter}": f"{letter} thing" for letter in "abcd"}
        return {
            "ID": str(number),
            "query_time": {"date": day, "time": clock},
            "type": "EntityLog",
            "question": "where?",
            "answer": answer,
            "target_time": {"date": "DAY1", "time": target},
            **choices,
        }

    rows = [row(0, "DAY1", "00000400", "B", "00000210"), row(1, "DAY2", "01020310", "A", "00000100")]
    return write(folder / "EgoLifeQA_A1.json", [*rows, row(2, "DAY1", "00000500", "D", "00000900")])


def egomem(folder):
    base = {"videoID": "A1_DAY1.mp4", "question": "what?", "options": OPTIONS}
    rows = [(0, "Detail", "A"), (1, "Event", "C"), (2, "Detail", "D")]
    return write(
        folder / "EgoMem.json",
        [{**base, "question_id": qid, "type": kind, "answer": answer} for qid, kind, answer in rows],
    )


def egotempo(folder):
    rows = [
        {
            "question_id": str(n),
            "clip_id": f"u-{n}_1.0_9.5",
            "question_type": "counting",
            "question": "q",
            "answer": "2.",
        }
        for n in range(3)
    ]
    return write(folder / "tempo.json", {"info": {}, "annotations": rows})


def vsibench(folder):
    base = {"dataset": "scannet", "scene_name": "s0"}
    level = {"question": "left?", "options": ["A. left", "B. right"]}
    return lines(
        folder / "vsi.jsonl",
        [
            {**base, "question_type": "object_counting", "question": "how many?", "ground_truth": "4"},
            {**base, "question_type": "object_rel_direction_easy", **level, "ground_truth": "A"},
            {**base, "question_type": "object_rel_direction_hard", **level, "ground_truth": "B"},
        ],
    )


ALL = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name not in ("write", "lines")
}
