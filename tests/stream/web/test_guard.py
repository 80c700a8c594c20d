"""Who gets in: tokens, names of the host, origins."""

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.web.guard import COOKIE, choose_token

pytest.importorskip("fastapi")
testclient = pytest.importorskip("starlette.testclient")
from embodied_mem.stream.web.app import build_app  # noqa: E402

TOKEN = "correct-horse-battery"
LIVE = "ws://127.0.0.1:8765/api/sessions/x/live"


@pytest.fixture
def client(make_rooms):
    def make(token=None, base="http://127.0.0.1:8765", **options):
        app = build_app(make_rooms(), token=token)
        return testclient.TestClient(app, base_url=base, follow_redirects=False, **options)

    return make


def test_a_token_is_asked_for_everywhere_but_on_loopback():
    assert choose_token("127.0.0.1", None) is None and choose_token("::1", None) is None
    first, second = choose_token("0.0.0.0", None), choose_token("192.168.0.3", None)
    assert len(first) >= 32 and first != second and choose_token("127.0.0.1", TOKEN) == TOKEN
    for bad in ("short", "with spaces in the middle", 'quote"quote"quote', "ünïcode-ünïcode-ü"):
        with pytest.raises(UsageError, match="at least 16"):
            choose_token("0.0.0.0", bad)


@pytest.mark.parametrize("path", ["/api/sessions", "/assets/watch.js", "/api/sessions/x/answers/1/0.jpg", "/nosuch"])
def test_without_the_token_nothing_is_served(client, path):
    guarded = client(TOKEN)
    assert guarded.get(path).status_code == 401
    assert guarded.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get(path, params={"token": TOKEN}).status_code == 401  # in the address of the page alone
    assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 404)


def test_changes_and_sockets_need_the_token_too(client):
    guarded = client(TOKEN)
    assert guarded.post("/api/sessions").status_code == 401
    assert guarded.delete("/api/sessions/x").status_code == 401
    assert guarded.post("/api/uploads?name=a.mp4", content=b"x").status_code == 401
    with pytest.raises(testclient.WebSocketDisconnect) as refused, guarded.websocket_connect(LIVE):
        pytest.fail("connected")
    assert "token" in refused.value.reason
    with pytest.raises(testclient.WebSocketDisconnect) as passed:
        with guarded.websocket_connect(LIVE, headers={"Authorization": f"Bearer {TOKEN}"}):
            pytest.fail("connected")
    assert passed.value.reason == "no such session"


def test_the_address_with_the_token_sets_a_cookie_once(client):
    guarded = client(TOKEN)
    door = guarded.get("/")
    assert door.status_code == 401 and "token" in door.text and TOKEN not in door.text
    assert guarded.get("/", params={"token": "wrong-wrong-wrong"}).status_code == 401
    welcome = guarded.get("/", params={"token": TOKEN})
    assert welcome.status_code == 303 and welcome.headers["location"] == "/"
    cookie = welcome.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN}") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert guarded.get("/").status_code == 200 and guarded.get("/api/sessions").json()["sessions"] == []


def test_foreign_names_and_pages_are_refused(client):
    here = client()
    assert here.get("/", headers={"host": "evil.example"}).status_code == 403
    assert here.get("/", headers={"host": "localhost:8765"}).status_code == 200
    assert here.post("/api/sessions", headers={"origin": "http://evil.example"}).status_code == 403
    assert here.post("/api/sessions", headers={"origin": "null"}).status_code == 403
    assert here.post("/api/sessions", headers={"origin": "http://127.0.0.1:8765"}).status_code == 201
    for headers, why in (
        ({"origin": "http://evil.example"}, "the page itself"),
        ({"host": "evil.example"}, "names of"),
    ):
        with pytest.raises(testclient.WebSocketDisconnect) as refused, here.websocket_connect(LIVE, headers=headers):
            pytest.fail("connected")
        assert why in refused.value.reason


def test_every_answer_carries_the_headers_that_hold_the_page_together(client):
    for path in ("/", "/assets/watch.css", "/api/sessions"):
        headers = client().get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
