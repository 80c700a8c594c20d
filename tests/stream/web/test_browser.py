"""The page in a real browser, wide and narrow: pictures move, a question is answered, nothing spills over the edge."""

import importlib.util
import threading
import time
from pathlib import Path

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.web.server import serve

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")
_spec = importlib.util.spec_from_file_location("stream_chromium", Path(__file__).with_name("chromium.py"))
chromium = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chromium)
pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here")

ASK = "(document.getElementById('question').value = {0!r}, ready(), document.getElementById('form').requestSubmit())"
LAST = "document.querySelector('#answers li:last-child')"


@pytest.fixture
def served(make_rooms, film):
    import uvicorn

    rooms = make_rooms(memory="flash_vstream", memory_config={"csm_slots": 8, "pool": 1})
    rooms.open(film(60), "source")
    found, opened = {}, threading.Event()

    def ready(address, token):
        found["url"] = address
        opened.set()

    class Quiet(uvicorn.Server):
        def __init__(self, config):
            super().__init__(config)
            found["server"] = self

        def install_signal_handlers(self):
            """Signals belong to the test runner."""

    patch = pytest.MonkeyPatch()
    patch.setattr(uvicorn, "Server", Quiet)
    thread = threading.Thread(target=serve, args=(rooms,), kwargs={"port": 0, "ready": ready})
    thread.start()
    assert opened.wait(30)
    yield found["url"], rooms
    found["server"].should_exit = True
    thread.join(30)
    patch.undo()
    assert not thread.is_alive() and rooms.all() == []


def test_the_page_works_wide_and_narrow(served):
    url, rooms = served
    with chromium.Chromium() as page:
        page.go(url)
        page.wait("!document.getElementById('video').hidden && document.getElementById('video').naturalWidth === 32")
        page.wait("document.querySelector('.counts').textContent.includes('60') || page.timeline?.version === 60")
        page.wait("!document.getElementById('question').disabled")
        page.run(ASK.format("the frame at 5.00 s?"))
        page.wait(f"{LAST} && {LAST}.querySelector('.about')")
        assert page.run(f"{LAST}.querySelector('.q').textContent") == "the frame at 5.00 s?"
        assert page.run(f"{LAST}.querySelector('.a').textContent").startswith("frame")
        page.wait(f"{LAST}.querySelector('.thumbs img').naturalWidth === 32")
        page.run(f"{LAST}.querySelector('.thumbs button').click()")
        page.wait("document.getElementById('large').open")
        page.run("document.getElementById('large').close()")
        page.run(ASK.format("tell me when a cat comes"))
        page.wait(f"{LAST}.querySelector('.error')?.textContent.includes('has ended')")
        for width, height in ((1280, 800), (390, 844)):
            page.size(width, height, mobile=width < 500)
            page.wait(f"window.innerWidth === {width}")
            assert page.run("document.documentElement.scrollWidth") <= width
            edges = "[...document.querySelectorAll('main *')].map((n) => n.getBoundingClientRect().right)"
            assert page.run(f"Math.max(...{edges})") <= width + 1
            box = page.run(
                "(({top, bottom}) => [top, bottom])(document.getElementById('send').getBoundingClientRect())"
            )
            assert 0 <= box[0] < box[1] <= height  # the button is in view
        # the camera of this device: Chromium's fake one
        page.run("adding()")
        page.run("document.getElementById('film').click()")
        until = time.monotonic() + 30
        while len(rooms.all()) < 2 or not rooms.all()[-1].session.memory.version:
            assert time.monotonic() < until
            page.run("0")
            time.sleep(0.1)
        page.wait("!document.getElementById('send').disabled || page.socket?.readyState === 1")
        page.run(ASK.format("tell me when a <b>cat</b> comes"))  # what people type stays text
        page.wait("document.querySelector('#standing .chip')")
        assert "<b>cat</b>" in page.run("document.getElementById('standing').textContent")
        assert page.errors == []


def test_a_port_that_is_taken_is_one_line(served, make_rooms):
    port = int(served[0].rstrip("/").rpartition(":")[2])
    with pytest.raises(UsageError, match="give another --port"):
        serve(make_rooms(), port=port)
