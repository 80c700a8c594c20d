"""Uploads: names that are names, sizes that are counted, nothing left behind."""

import asyncio

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.web.uploads import TooLarge, place_for, receive, safe_name

TRAVERSALS = [
    "../../etc/passwd.mp4",
    "..\\..\\x.mp4",
    "/etc/x.mp4",
    "a/b.mp4",
    "C:x.mp4",
    ".hidden.mp4",
    "..",
    "",
    "x\x00.mp4",
    "x\n.mp4",
    "x.mp4/",
    "\u202ex.mp4",
    "a" * 200 + ".mp4",
    "film.html",
    "film",
    "mp4",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_that_are_more_than_a_video_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="expected a"):
        place_for(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_new_inside_the_folder_and_keeps_the_ending_alone(tmp_path):
    places = {place_for(tmp_path / "up", "Küche – tour (1).MP4") for _ in range(20)}
    assert len(places) == 20
    assert all(p.parent == (tmp_path / "up").resolve() and p.suffix == ".mp4" and "tour" not in p.name for p in places)
    assert safe_name("a..b.webm") == "a..b.webm"


def upload(path, chunks, most=100):
    async def stream():
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return asyncio.run(receive(stream(), path, most))


def test_what_is_too_large_empty_or_cut_off_leaves_nothing(tmp_path):
    path = tmp_path / "up" / "x.mp4"
    for chunks, error in (([b"a" * 60, b"b" * 60], TooLarge), ([], UsageError), ([b"a", ConnectionError()], Exception)):
        with pytest.raises(error):
            upload(path, chunks)
        assert list(path.parent.iterdir()) == []
    assert upload(path, [b"a" * 60, b"b" * 40]) == 100 and path.stat().st_size == 100
    with pytest.raises(FileExistsError):
        upload(path, [b"other"])
