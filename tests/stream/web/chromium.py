"""A headless Chromium that a test drives over its debugging protocol; nothing but a WebSocket client is needed."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path


def find():
    """Return the path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Chromium:
    """One page of one browser; leave the block to end it."""

    def __init__(self, width=1280, height=800):
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        flags = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --mute-audio"
        fake = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream --no-first-run"
        size = f"--window-size={width},{height}"
        words = [find(), *flags.split(), *fake.split(), size, "--remote-debugging-port=0"]
        self.process = subprocess.Popen(
            [*words, f"--user-data-dir={self.folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._numbers = itertools.count(1)
        self.errors = []

    def __enter__(self):
        from websockets.sync.client import connect

        port = Path(self.folder) / "DevToolsActivePort"
        self._until(lambda: port.is_file() and len(port.read_text().split()) == 2, 60)
        number = port.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/json/list", timeout=20) as found:
            page = next(item for item in json.load(found) if item["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=2**26)
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        if hasattr(self, "socket"):
            self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, method, **params):
        """Send one command and return its result; errors of the page are kept."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"].get("exception", {}).get("description"))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def size(self, width, height, mobile=False, scale=1):
        """Look through a window of so many CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def go(self, url):
        """Open an address."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script):
        """Return the value of an expression."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=30):
        """Wait until an expression is true."""
        self._until(lambda: self.run(f"Boolean({script})"), seconds, script)

    def picture(self, path, full=False):
        """Write a PNG of the page."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def _until(self, check, seconds, what="the browser"):
        until = time.monotonic() + seconds
        while True:
            found = check()
            if found:
                return found
            assert time.monotonic() < until, f"waited {seconds} s for {what}"
            time.sleep(0.05)
