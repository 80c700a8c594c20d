"""What a data set gives back, its layout on disk, and that the packages it is made for open it."""

import json

import numpy as np
import pytest

from embodied_mem.demonstrations import Episode, open_dataset
from embodied_mem.errors import UsageError

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (datasets)")
pytest.importorskip("av", reason="needs av (datasets)")


@pytest.mark.parametrize("fmt", ["lerobot", "minari"])
def test_episodes_come_back_as_they_were_played(fmt, recorded):
    pytest.importorskip("minari" if fmt == "minari" else "av")
    out, _ = recorded(format=fmt)
    reader = open_dataset(out)
    for number, episode in enumerate(reader):
        length = len(episode)
        target, code = episode.extras["goal"][0, 0], int(episode.state[0, 2])
        assert length == reader.lengths[number] and episode.number == number and episode.seed == 4 and episode.success
        assert episode.instruction == f"point at colour {code}"
        assert np.array_equal(episode.state[:, 1], np.arange(length)), "what is seen before each action"
        assert np.allclose(episode.actions[:, 0], target) and np.allclose(episode.rewards, 0.0, atol=1e-6)
        frames = episode.images["rgb"].astype(int)
        assert frames.shape == (length, 16, 24, 3)
        wanted = np.zeros((length, 16, 24, 3), int)
        wanted[..., code] = 200
        wanted[np.arange(length), np.arange(length)] = 20
        limit = 0 if fmt == "minari" else 12
        assert np.abs(frames - wanted).max() <= limit, "the picture of every step, in its colours"
    assert "state (" in repr(episode) and "[" not in repr(episode)


def test_lerobot_layout(recorded):
    out, summary = recorded(fails=0.3)
    info = json.loads((out / "meta/info.json").read_text())
    total = summary["steps"]
    assert info["codebase_version"] == "v3.0" and info["total_episodes"] == 7 and info["total_frames"] == total
    assert info["fps"] == 20 and info["splits"] == {"train": "0:7"}
    features = info["features"]
    assert features["observation.state"] == {"dtype": "float32", "shape": [3], "names": None}
    assert features["observation.images.rgb"]["dtype"] == "video" and features["action"]["shape"] == [2]
    tables = [parquet.read_table(path) for path in sorted(out.glob("data/*/*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["index"] for row in rows] == list(range(total))
    assert {row["episode_index"] for row in rows} == set(range(7))
    stored = {name for name, feature in features.items() if feature["dtype"] != "video"}
    assert stored == set(rows[0]) and all(abs(row["timestamp"] - row["frame_index"] / 20) < 1e-6 for row in rows)
    index = parquet.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for entry in index:
        own = [row for row in rows if row["episode_index"] == entry["episode_index"]]
        span = (entry["dataset_from_index"], entry["dataset_to_index"])
        assert (own[0]["index"], own[-1]["index"] + 1) == span and len(own) == entry["length"]
        seconds = [entry[f"videos/observation.images.rgb/{end}_timestamp"] for end in ("from", "to")]
        assert seconds[1] - seconds[0] == pytest.approx(entry["length"] / 20)
        assert own[-1]["next.done"] and own[-1]["next.success"] and not any(row["next.done"] for row in own[:-1])
        assert out.joinpath(
            info["video_path"].format(
                video_key="observation.images.rgb",
                chunk_index=entry["videos/observation.images.rgb/chunk_index"],
                file_index=entry["videos/observation.images.rgb/file_index"],
            )
        ).is_file()
    tasks = pytest.importorskip("pandas").read_parquet(out / "meta/tasks.parquet")
    assert tasks.index.name == "task" and list(tasks["task_index"]) == list(range(len(tasks)))
    assert [tasks.iloc[row["task_index"]].name for row in rows] == [
        index[row["episode_index"]]["tasks"][0] for row in rows
    ]
    stats = json.loads((out / "meta/stats.json").read_text())
    actions = np.array([row["action"] for row in rows])
    assert np.allclose(stats["action"]["mean"], actions.mean(axis=0)) and stats["action"]["count"] == [total]
    assert np.allclose(stats["action"]["std"], actions.std(axis=0)) and np.shape(
        stats["observation.images.rgb"]["mean"]
    ) == (3, 1, 1)


def test_lerobot_opens_it(recorded):
    dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="needs lerobot")
    out, summary = recorded()
    made = dataset.LeRobotDataset("local/set", root=out)
    assert len(made) == summary["steps"] and made.num_episodes == 7
    item = made[0]
    assert item["action"].shape == (2,) and item["observation.images.rgb"].shape == (3, 16, 24)
    assert item["task"].startswith("point at colour")


def test_minari_opens_it(recorded, monkeypatch):
    minari = pytest.importorskip("minari", reason="needs minari (datasets)")
    out, summary = recorded("pointing-v3", format="minari", env_options={"pictures": False})
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(out.parent))
    made = minari.load_dataset("pointing-v3")
    assert made.total_episodes == 7 and made.total_steps == summary["steps"]
    for number, episode in enumerate(made.iterate_episodes()):
        assert len(episode.observations["vector"]) == len(episode.actions) + 1 == len(episode.rewards) + 1
        assert episode.terminations[-1] and not episode.truncations.any()
        assert made.observation_space["vector"].contains(episode.observations["vector"][0])
        (about,) = made.storage.get_episode_metadata([number])
        assert about["seed"] == 4 and about["number"] == number and about["instruction"].startswith("point at")


def test_a_minari_folder_must_be_named_like_an_id(recorded):
    pytest.importorskip("minari", reason="needs minari (datasets)")
    with pytest.raises(UsageError, match="NAME-vNUMBER"):
        recorded("pointing", format="minari")


def test_a_foreign_lerobot_data_set_is_read_without_a_journal(recorded):
    out, _ = recorded()
    for name in ("recording.json", "recording.jsonl", "checksums.json"):
        (out / name).unlink()
    reader = open_dataset(out)
    assert len(reader) == 7 and reader[3].number == 3 and reader[3].instruction.startswith("point at")
    info = json.loads((out / "meta/info.json").read_text())
    (out / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(UsageError, match="expected LeRobotDataset v3.*v2.1"):
        open_dataset(out)


def test_pictures_in_the_table_are_read_too(recorded):
    import cv2
    import pyarrow

    out, _ = recorded(env_options={"pictures": False})
    name = "observation.images.top"
    for path in out.glob("data/*/*.parquet"):
        table = parquet.read_table(path)
        cells = []
        for row in table.to_pylist():
            picture = np.zeros((4, 6, 3), np.uint8)
            picture[..., 0], picture[..., 2] = row["episode_index"], row["frame_index"]
            cells.append({"bytes": cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes(), "path": None})
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        parquet.write_table(table.append_column(name, pyarrow.array(cells, kind)), path)
    info = json.loads((out / "meta/info.json").read_text())
    info["features"][name] = {"dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channels"]}
    (out / "meta/info.json").write_text(json.dumps(info))
    frames = open_dataset(out, verify=False)[5].images["top"]
    assert (frames[..., 0] == 5).all() and np.array_equal(frames[:, 0, 0, 2], np.arange(len(frames)))


def test_an_episode_checks_its_shapes():
    good = {"instruction": "", "images": {}, "actions": np.zeros((3, 2)), "seed": 0, "success": True}
    assert len(Episode(state=np.zeros((3, 4)), **good)) == 3
    with pytest.raises(UsageError, match=r"state of shape \(3, S\)"):
        Episode(state=np.zeros((2, 4)), **good)
    with pytest.raises(UsageError, match="images"):
        Episode(state=np.zeros((3, 4)), **{**good, "images": {"rgb": np.zeros((3, 8, 8, 3))}})
