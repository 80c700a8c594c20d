"""Atomic files: a failed write leaves the old content and no debris; a torn last line is dropped."""

import errno
import os

import pytest

from embodied_mem import files
from embodied_mem.errors import UsageError


def test_write_and_read_json(tmp_path):
    files.atomic_write_json(tmp_path / "a" / "x.json", {"b": [1, 2]})
    assert files.read_json(tmp_path / "a" / "x.json") == {"b": [1, 2]}


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_old_content(tmp_path, monkeypatch, failing):
    path = tmp_path / "x.json"
    files.atomic_write_json(path, 1)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        files.atomic_write_json(path, 2)
    monkeypatch.undo()
    assert files.read_json(path) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.atomic_write_text(tmp_path / "folder", "x")
    assert caught.value.filename == str(tmp_path / "folder")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError) as caught:
        files.atomic_write_text(tmp_path / "x.json", "x")
    assert caught.value.filename == str(tmp_path / "x.json")
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_a_target_is_checked_without_a_trace(tmp_path):
    files.check_target(tmp_path / "a" / "b" / "x.json")
    with pytest.raises(UsageError, match="got the folder"):
        files.check_target(tmp_path)
    (tmp_path / "file").write_text("old")
    files.check_target(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write .*x.json: Not a directory"):
        files.check_target(tmp_path / "file" / "x.json")
    assert (tmp_path / "file").read_text() == "old" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_atomic_dir_replaces_whole_or_not_at_all(tmp_path):
    target = tmp_path / "bundle"
    with files.atomic_dir(target) as folder:
        (folder / "one").write_text("1")
    with pytest.raises(RuntimeError), files.atomic_dir(target) as folder:
        (folder / "two").write_text("2")
        raise RuntimeError
    assert sorted(item.name for item in target.iterdir()) == ["one"]
    with files.atomic_dir(target) as folder:
        (folder / "three").write_text("3")
    assert sorted(item.name for item in target.iterdir()) == ["three"]
    assert [item.name for item in tmp_path.iterdir()] == ["bundle"]


def test_torn_last_line_is_dropped_and_not_joined(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_jsonl(path, {"a": 1})
    with open(path, "a") as stream:
        stream.write('{"a": 2')
    assert files.read_jsonl(path) == [{"a": 1}]
    files.append_jsonl(path, {"a": 3})
    assert files.read_jsonl(path) == [{"a": 1}, {"a": 3}]


def test_broken_middle_line_is_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(UsageError, match="line 2"):
        files.read_jsonl(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [(b'{"a": "\xff\xfe"}', "not valid JSON"), (b"3", "JSON object, got int"), (b'["a"]', "JSON object, got list")],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(UsageError, match=f"rows.jsonl, line 2: .*{message}"):
        files.read_jsonl(path)


def test_missing_and_broken_json_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="found nothing"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        files.read_json(tmp_path / "bad.json")


def test_only_what_was_made_and_is_empty_is_removed(tmp_path):
    made = files.absent_folders(tmp_path / "a" / "b" / "c")
    assert made == [tmp_path / "a" / "b" / "c", tmp_path / "a" / "b", tmp_path / "a"]
    made[0].mkdir(parents=True)
    (tmp_path / "a" / "kept").touch()
    files.remove_empty(made)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "kept"]
