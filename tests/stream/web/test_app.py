"""The server: sessions, uploads, questions, live pictures, parallel sessions."""

import builtins
import json
import struct
import threading
import time

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import Answer, AnswererError
from embodied_mem.stream.answerers.plain import Scripted, ScriptedConfig
from embodied_mem.stream.pictures import decoded, jpeg
from embodied_mem.stream.sources import ArraySource
from embodied_mem.stream.web.rooms import Limits

pytest.importorskip("fastapi")
testclient = pytest.importorskip("starlette.testclient")
from embodied_mem.stream.web.app import build_app  # noqa: E402

WS = "ws://127.0.0.1:8765"


def client(rooms):
    return testclient.TestClient(build_app(rooms), base_url="http://127.0.0.1:8765")


def until(check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


class Slow(Scripted):
    """Says its answer in pieces; ``hold`` keeps it thinking."""

    def __init__(self, hold=None, fail=None):
        super().__init__(ScriptedConfig())
        self.hold, self.fail = hold, fail

    def spoken(self, request, on_text):
        if self.fail:
            raise self.fail
        for piece in ("on", "on the", "on the table"):
            if on_text:
                on_text(piece)
        if self.hold:
            self.hold.wait(20)
        return Answer("on the table", confidence=0.75, spans=((2.0, 2.0),))


def talk(socket, kind, most=400):
    """Return the next JSON message of a kind; pictures are acknowledged on the way."""
    for _ in range(most):
        message = socket.receive()
        if message.get("bytes") is not None:
            socket.send_json({"type": "shown"})
            continue
        value = json.loads(message["text"])
        if value["type"] == kind:
            return value
    raise AssertionError(f"no {kind}")


def test_page_and_assets_are_there_and_nothing_else(make_rooms):
    web = client(make_rooms())
    page = web.get("/")
    assert page.status_code == 200 and "embodied-mem" in page.text
    for name in ("watch.css", "watch.js", "draw.js"):
        assert f"/assets/{name}" in page.text and web.get(f"/assets/{name}").status_code == 200
    for path in ("/assets/app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/nosuch", "/docs", "/openapi.json"):
        assert web.get(path).status_code == 404


def test_an_answer_over_http_with_its_evidence(make_rooms, film):
    rooms = make_rooms(memory="full_history", memory_config={})
    room = rooms.open(film(), "source")
    assert room.session.join(20)
    web = client(rooms)
    said = web.post(f"/api/sessions/{room.number}/ask", json={"question": "the frame at 5.00 s", "at_s": 12}).json()
    assert (said["answer"], said["at_s"], said["confidence"]) == ("frame at 5.00 s", 12.0, 1.0)
    assert said["evidence"] == [{"t0": 5.0, "t1": 5.0, "text": "frame at 5.00 s"}]
    picture = web.get(said["frames"][0]["url"])
    assert picture.headers["content-type"] == "image/jpeg" and decoded(picture.content).shape == (24, 32, 3)
    for url in ("/api/sessions/x/answers/1/0.jpg", f"/api/sessions/{room.number}/answers/1/99.jpg"):
        assert web.get(url).status_code == 404
    assert web.get("/api/sessions").json()["sessions"] == [
        {"id": room.number, "name": "film", "kind": "source", "state": "ended"}
    ]


@pytest.mark.parametrize(
    "body, status",
    [
        (b"no json", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"question": " "}', 422),
        (b'{"question": "x", "at_s": "soon"}', 422),
        (b'{"question": "x", "at_s": NaN}', 422),
        (json.dumps({"question": "x" * 2001}).encode(), 422),
        (b'{"question": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
def test_questions_that_are_none_are_one_line(make_rooms, film, body, status):
    rooms = make_rooms()
    room = rooms.open(film(), "source")
    found = client(rooms).post(f"/api/sessions/{room.number}/ask", content=body)
    assert found.status_code == status and "expected" in found.json()["error"]
    assert client(rooms).post("/api/sessions/x/ask", content=body).status_code == 404


def test_a_back_end_that_is_away_is_told_as_such(make_rooms, film):
    rooms = make_rooms(Slow(fail=AnswererError("http://x: no answer within 60 s")))
    room = rooms.open(film(), "source")
    found = client(rooms).post(f"/api/sessions/{room.number}/ask", json={"question": "where?"})
    assert found.status_code == 502 and "no answer" in found.json()["error"]


def test_an_upload_becomes_a_session_and_leaves_with_it(make_rooms, video, tmp_path):
    rooms = make_rooms()
    web = client(rooms)
    made = web.post("/api/uploads", params={"name": "my tour.mp4"}, content=video)
    assert made.status_code == 201 and made.json()["name"] == "my tour.mp4" and made.json()["kind"] == "upload"
    room = rooms.get(made.json()["id"])
    assert room.session.join(20) and room.session.memory.version == 30
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    assert web.delete(f"/api/sessions/{room.number}").json() == {"closed": True}
    assert list((tmp_path / "uploads").iterdir()) == []
    assert web.delete(f"/api/sessions/{room.number}").status_code == 404


@pytest.mark.parametrize("name", ["../../x.mp4", "..%2f..%2fx.mp4", "/etc/x.mp4", "x.html", "", ".x.mp4", "a\\b.mp4"])
def test_uploads_cannot_leave_their_folder(make_rooms, video, tmp_path, name):
    before = {path for path in tmp_path.rglob("*")}
    found = client(make_rooms()).post("/api/uploads", params={"name": name}, content=video)
    assert found.status_code == 422 or (found.status_code == 201 and "/" not in name and ".." not in name)
    assert found.status_code == 422 and {path for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("content", [b"", b"garbage" * 500])
def test_an_upload_of_nothing_or_of_garbage_is_one_line_and_leaves_nothing(make_rooms, tmp_path, content):
    rooms = make_rooms()
    found = client(rooms).post("/api/uploads", params={"name": "film.mp4"}, content=content)
    assert found.status_code == 422 and str(tmp_path) not in found.text and rooms.all() == []
    assert not (tmp_path / "uploads").exists() or list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_above_the_limit_is_cut_off(make_rooms, tmp_path, limits):
    web = client(make_rooms(limits=limits))
    taken = []

    def endless():
        for _ in range(1000):
            taken.append(1)
            yield b"x" * 50_000

    said = web.post("/api/uploads", params={"name": "film.mp4"}, content=b"x" * 200_001)
    assert said.status_code == 413 and "at most" in said.json()["error"]
    streamed = web.post("/api/uploads", params={"name": "film.mp4"}, content=endless())  # promises no length
    assert streamed.status_code == 413
    assert not (tmp_path / "uploads").exists() or list((tmp_path / "uploads").iterdir()) == []


def test_there_are_no_more_sessions_than_allowed(make_rooms, limits, video):
    web = client(make_rooms(limits=limits))
    assert [web.post("/api/sessions").status_code for _ in range(4)] == [201, 201, 201, 409]
    assert web.post("/api/uploads", params={"name": "a.mp4"}, content=video).status_code == 409
    first = web.get("/api/sessions").json()["sessions"][0]["id"]
    web.delete(f"/api/sessions/{first}")
    assert web.post("/api/sessions").status_code == 201
    with pytest.raises(UsageError, match="limits"):
        Limits(sessions=0)


def test_uploads_under_way_count_as_sessions(make_rooms, limits):
    rooms = make_rooms(limits=limits)
    web = client(rooms)
    with rooms.reserve(), rooms.reserve():
        assert [web.post("/api/sessions").status_code for _ in range(2)] == [201, 409]
        with pytest.raises(UsageError, match="at most 3 sessions"), rooms.reserve():
            pytest.fail("reserved")
    assert web.post("/api/sessions").status_code == 201


def test_viewers_of_a_closed_session_are_sent_away(make_rooms):
    with client(make_rooms()) as web:
        number = web.post("/api/sessions").json()["id"]
        with web.websocket_connect(f"{WS}/api/sessions/{number}/live") as socket:
            assert talk(socket, "hello")
            web.delete(f"/api/sessions/{number}")
            with pytest.raises(testclient.WebSocketDisconnect) as gone:
                for _ in range(50):
                    socket.receive_json()
            assert gone.value.code == 1000


def test_a_viewer_sees_pictures_memory_and_an_answer_in_pieces(make_rooms, film):
    rooms = make_rooms(Slow())
    room = rooms.open(film(), "source")
    assert room.session.join(20)
    with client(rooms) as web, web.websocket_connect(f"{WS}/api/sessions/{room.number}/live") as socket:
        hello = socket.receive_json()
        assert hello["type"] == "hello" and hello["name"] == "film" and hello["history"] == []
        status = talk(socket, "status")
        assert status["state"] == "ended" and status["counters"]["written"] == 40 and status["size"] == [32, 24]
        drawn = talk(socket, "timeline")
        assert drawn["kept"] + drawn["merged"] + drawn["let_go"] == 40 and drawn["stores"][0]["bars"]
        socket.send_json({"type": "ask", "id": 7, "question": "where is it?"})
        pieces = [talk(socket, "piece")["text"] for _ in range(3)]
        answer = talk(socket, "answer")
        assert pieces == ["on", "on the", "on the table"] and answer["id"] == 7
        assert (answer["answer"], answer["confidence"]) == ("on the table", 0.75) and len(answer["frames"]) >= 1
        with web.websocket_connect(f"{WS}/api/sessions/{room.number}/live") as other:
            assert [item["answer"] for item in other.receive_json()["history"]] == ["on the table"]


def test_pictures_wait_for_the_viewer(make_rooms):
    rooms = make_rooms()
    with client(rooms) as web:
        made = web.post("/api/sessions").json()
        with web.websocket_connect(f"{WS}/api/sessions/{made['id']}/live") as socket:
            for level in (10, 200):
                sent = web.post(
                    f"/api/sessions/{made['id']}/frames", content=jpeg(np.full((24, 32, 3), level, np.uint8))
                )
                assert sent.status_code == 202 and sent.json() == {"taken": True}
                until(lambda: rooms.get(made["id"]).session.latest is not None)
            message = None
            while message is None or message.get("bytes") is None:
                message = socket.receive()
            (t_s,) = struct.unpack_from("<d", message["bytes"])
            assert t_s >= 0 and decoded(message["bytes"][8:]).shape == (24, 32, 3)


def test_a_browser_sends_its_camera_over_the_socket(make_rooms, limits):
    rooms = make_rooms(limits=limits)
    with client(rooms) as web:
        number = web.post("/api/sessions").json()["id"]
        with web.websocket_connect(f"{WS}/api/sessions/{number}/live") as socket:
            for second, level in enumerate((10, 100, 200)):
                picture = jpeg(np.full((24, 32, 3), level, np.uint8))
                socket.send_bytes(struct.pack("<d", float(second)) + picture)
                until(lambda: rooms.get(number).session.memory.version == second + 1)  # noqa: B023
            assert rooms.get(number).session.memory.until_s == 2.0
            socket.send_bytes(b"short")
            assert "expected a picture" in talk(socket, "error")["message"]
            socket.send_bytes(b"x" * 60_000)
            assert "50000 bytes" in talk(socket, "error")["message"]
        for bad, status in ((b"", 422), (b"x" * 60_000, 413)):
            assert web.post(f"/api/sessions/{number}/frames", content=bad).status_code == status
        assert web.post(f"/api/sessions/{number}/frames?t_s=nan", content=b"x").status_code == 422


def test_messages_that_are_none_do_not_end_the_talk(make_rooms, film):
    rooms = make_rooms(Slow(fail=ZeroDivisionError("bug")))
    room = rooms.open(film(), "source")
    with client(rooms) as web, web.websocket_connect(f"{WS}/api/sessions/{room.number}/live") as socket:
        for text in ("no json", "[1]", '{"type": "format"}', '{"type": "forget"}'):
            socket.send_text(text)
            assert "expected" in talk(socket, "error")["message"]
        socket.send_bytes(bytes(20))
        assert "its own source" in talk(socket, "error")["message"]
        socket.send_json({"type": "ask", "id": 1, "question": "why?"})
        assert talk(socket, "error") == {"type": "error", "id": 1, "message": "the answerer failed: ZeroDivisionError"}
        socket.send_json({"type": "ask", "id": 2, "question": ""})
        assert talk(socket, "error")["id"] == 2
    with pytest.raises(Exception), client(rooms).websocket_connect(f"{WS}/api/sessions/none/live") as socket:  # noqa: B017
        socket.receive_json()


def test_ingest_goes_on_while_an_answer_is_thought_about(make_rooms, film):
    hold = threading.Event()
    rooms = make_rooms(Slow(hold))
    with client(rooms) as web:
        number = web.post("/api/sessions").json()["id"]
        room = rooms.get(number)
        with web.websocket_connect(f"{WS}/api/sessions/{number}/live") as socket:
            socket.send_json({"type": "ask", "id": 1, "question": "where?"})
            talk(socket, "piece")
            for second in range(4):
                socket.send_bytes(struct.pack("<d", float(second)) + jpeg(np.zeros((24, 32, 3), np.uint8)))
                until(lambda: room.session.memory.version == second + 1)  # noqa: B023
            assert len(room.history) == 0
            for number in range(2, 5):
                socket.send_json({"type": "ask", "id": number, "question": "where?"})
            socket.send_json({"type": "ask", "id": 5, "question": "one too many"})
            assert "at most 4" in talk(socket, "error")["message"]
            hold.set()
            assert talk(socket, "answer")["answer"] == "on the table"


def test_a_standing_question_is_told_to_every_viewer_and_can_be_taken_back(make_rooms):
    rooms = make_rooms(memory="full_history", memory_config={})
    with client(rooms) as web:
        number = web.post("/api/sessions").json()["id"]
        url = f"{WS}/api/sessions/{number}/live"
        with web.websocket_connect(url) as asking, web.websocket_connect(url) as looking:
            picture = jpeg(np.zeros((24, 32, 3), np.uint8))
            asking.send_json({"type": "ask", "id": 3, "question": "Tell me when the frame at 9.00 s"})
            promised = talk(asking, "standing")
            assert promised["id"] == 3 and promised["question"] == "the frame at 9.00 s"
            until(lambda: rooms.get(number).status()["standing"])
            for second in range(12):
                asking.send_bytes(struct.pack("<d", float(second)) + picture)
                until(lambda: rooms.get(number).session.memory.version == second + 1)  # noqa: B023
            for socket in (asking, looking):
                alert = talk(socket, "alert")
                assert alert["answer"] == "yes" and alert["question"] == "the frame at 9.00 s"
            asking.send_json({"type": "forget", "number": promised["number"]})
            until(lambda: not rooms.get(number).status()["standing"])


def test_eight_sessions_in_one_process_do_not_mix(make_rooms, film):
    rooms = make_rooms(memory="full_history", memory_config={})
    opened = [rooms.open(film(name=f"film{n}", shade=20 * n), "source") for n in range(8)]
    assert all(room.session.join(30) for room in opened)
    web = client(rooms)
    answers = {}

    def ask(place, room):
        said = web.post(f"/api/sessions/{room.number}/ask", json={"question": "the frame at 5.00 s?"}).json()
        answers[place] = decoded(web.get(said["frames"][0]["url"]).content).mean(), said["answer"]

    threads = [threading.Thread(target=ask, args=item) for item in enumerate(opened)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(answers[n][1] == "frame at 5.00 s" for n in range(8))
    assert all(abs(answers[n][0] - (50 + 20 * n)) < 3 for n in range(8))
    with pytest.raises(UsageError, match="at most 8 sessions"):
        rooms.open(film(), "source")


def test_a_failed_stream_says_so_and_the_others_go_on(make_rooms, film):
    class Broken(ArraySource):
        def _retrieve(self):
            raise OSError("the disk is gone")

    rooms = make_rooms()
    bad = rooms.open(Broken(np.zeros((3, 8, 8, 3), np.uint8), [0, 1, 2]), "source")
    good = rooms.open(film(), "source")
    assert good.session.join(20)
    until(lambda: bad.status()["state"] == "failed")
    assert "the disk is gone" in bad.status()["error"] and good.status()["error"] is None
    assert client(rooms).delete(f"/api/sessions/{bad.number}").status_code == 200


def test_named_sources_keep_their_memory_in_a_folder_of_their_own(make_rooms, film, tmp_path):
    rooms = make_rooms(checkpoint=str(tmp_path / "kept"))
    for address, name in (("rtsp://user:secret@a/cam", "rtsp://a/cam"), ("rtsp://b/cam", "rtsp://a/cam")):
        assert rooms.open(film(name=name), "source", address=address).session.join(20)
    rooms.open(film(), "upload")
    rooms.close_all()
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert len(kept) == 2 and not any("secret" in name for name in kept)
    again = make_rooms(checkpoint=str(tmp_path / "kept")).open(
        film(name="rtsp://a/cam"), "source", address="rtsp://b/cam"
    )
    assert again.session.join(20) and again.session.memory.version == 40 and again.session.counters().written == 0


def test_without_the_extra_it_says_what_to_install(make_rooms, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.split(".")[0] == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"embodied-mem\[web\]"):
        build_app(make_rooms())
