"""The OpenAI-compatible answerer against a server that is not ours: ``transformers serve`` with a tiny model."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.stream.answerers import AnswererError, ImagePart, Request, TextPart, make_answerer

pytestmark = pytest.mark.full
for needed in ("transformers", "fastapi", "uvicorn", "openai", "accelerate"):
    pytest.importorskip(needed, reason=f"transformers serve needs {needed}")
_spec = importlib.util.spec_from_file_location("tiny_model", Path(__file__).with_name("tiny_model.py"))
tiny_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_model)

START_S = 240


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the URL of a running server and the name of its model."""
    folder = str(tiny_model.save(tmp_path_factory.mktemp("tiny")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(Path(folder) / "server.log", "w+")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        until = time.monotonic() + START_S
        while True:
            if process.poll() is not None or time.monotonic() > until:
                log.seek(0)
                pytest.fail(f"the server did not start: {log.read()[-2000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def request(options=None):
    context = (TextPart("someone comes", 0, 1), ImagePart(np.full((40, 30, 3), 90, np.uint8), 1.0))
    return Request("What is it?", options, context, max_tokens=4)


@pytest.mark.parametrize("stream", [True, False])
def test_it_answers_like_the_local_model(server, stream):
    url, folder = server
    answer = make_answerer("openai", url=url, model=folder, stream=stream, quality=100).answer(request())
    local = make_answerer("transformers", path=folder, device="cpu").answer(request())
    assert answer.usage["prompt_tokens"] == local.usage["prompt_tokens"]
    assert answer.text.strip() == local.text
    assert (answer.ttft_ms is not None) == stream


def test_options_are_read_from_the_reply_since_it_gives_no_log_probabilities(server):
    url, folder = server
    answer = make_answerer("openai", url=url, model=folder).answer(request(("a cup", "a dog")))
    assert answer.logprobs is None and answer.parsed_by in ("", "letter", "pattern", "text")
    with pytest.raises(AnswererError, match="no log-probabilities"):
        make_answerer("openai", url=url, model=folder, logprobs="always").answer(request(("a cup", "a dog")))


def test_a_refusal_is_one_line(server):
    url, _ = server
    with pytest.raises(AnswererError, match="status 4") as caught:
        make_answerer("openai", url=url, model="another").answer(request())
    assert "\n" not in str(caught.value)
