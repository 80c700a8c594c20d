"""Answerers: the protocol, choices in words, and an OpenAI-compatible server played by a local stub."""

import base64
import http.server
import json
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import (
    AnswererError,
    EmbedPart,
    ImagePart,
    Request,
    TextPart,
    make_answerer,
    request_for,
)
from embodied_mem.stream.answerers.choices import find_choice
from embodied_mem.stream.evidence import Lines
from embodied_mem.stream.memory import make_stream_memory

OPTIONS = ("red cup", "cup", "a dog", "42")


@pytest.mark.parametrize(
    "text, choice",
    [
        ("B", 1),
        (" (c). ", 2),
        ("d", 3),
        ("The answer is B", 1),
        ("Answer: B", 1),
        ("answer is (D), because", 3),
        ("C. a dog", 2),
        ("I think (A)", 0),
        ("it was a red cup on the table", 0),
        ("a cup!", 1),
        ("42", 3),
        ("a dog and a cup", None),
        ("(A) or (B)", None),
        ("The thing", None),
        ("", None),
        ("Answer: E", None),
        ("A dog ate", 2),
        ("142", None),
    ],
)
def test_choices_are_found_or_wrong_never_guessed(text, choice):
    assert find_choice(text, OPTIONS)[0] == choice


def test_evidence_becomes_context_in_the_order_of_time(stream, make):
    memory = make("last_k", slots=6)
    for index in range(8):
        memory.write(stream.tokens[index], float(stream.times[index]), stream.frames[index], f"step {index}")
    request = request_for("what?", memory.read(), options=["x", "y"], embeds=True, max_tokens=5)
    assert isinstance(request.context[-1], EmbedPart) and request.context[-1].tokens.shape == (18, 8)
    times = [part.t0 if isinstance(part, TextPart) else part.t for part in request.context[:-1]]
    assert times == sorted(times) and len(times) == 12 and request.max_tokens == 5
    assert [part.text for part in request.context[:-1:2]] == [f"step {i}" for i in range(2, 8)]


def test_plain_answerers():
    context = (TextPart("a red cup stands on the table", 1.0, 2.0), TextPart("the dog sleeps", 3.0, 4.5))
    rule = make_answerer("rule")
    assert rule.answer(Request("what is on the table?", context=context)).text == context[0].text
    assert rule.answer(Request("When did the dog sleep? dog", context=context)).text == "3.00 s to 4.50 s"
    found = rule.answer(Request("what stands there, on the table?", ("a dog", "a red cup"), context))
    assert found.choice == 1 and found.parsed_by == "text"
    for request in (Request("where is the cat?", context=context), Request("cup?", ("blue", "green"), context)):
        answer = rule.answer(request)
        assert answer.text == "unknown" and answer.choice is None
    image = ImagePart(np.zeros((2, 2, 3), np.uint8), 0.0)
    assert make_answerer("echo").answer(Request("q", context=(image, *context))).usage == {
        "calls": 1,
        "texts": 2,
        "images": 1,
    }
    scripted = make_answerer("scripted", replies=("B", "A"))
    assert [scripted.answer(Request("q", ("x", "y"))).choice for _ in range(2)] == [1, 0]
    with pytest.raises(AnswererError, match="script is over"):
        scripted.answer(Request("q"))


def test_requests_are_checked_at_the_door():
    for arguments in ({"question": " "}, {"question": "q", "options": ("one",)}, {"question": "q", "max_tokens": 0}):
        with pytest.raises(UsageError, match="expected"):
            Request(**arguments)
    assert {"echo", "rule", "scripted", "openai"} <= set(registry.names("answerer"))
    for url in ("localhost:8000", "ftp://host/v1", "http://"):
        with pytest.raises(UsageError, match="expected a URL"):
            make_answerer("openai", url=url)


class Stub:
    """A server that answers with the next of ``plans``: (status, body, is a stream, seconds to wait)."""

    def __init__(self, plans):
        self.plans, self.bodies, self.headers = list(plans), [], []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                stub.headers.append(dict(self.headers))
                stub.bodies.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                status, body, streams, wait = stub.plans.pop(0)
                time.sleep(wait)
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    stubs = []

    def start(*plans):
        stubs.append(Stub(plans))
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.close()


def streamed(*pieces, usage=None):
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    events += [{"choices": [], "usage": usage}] if usage else []
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b": note\n\ndata: [DONE]\n\n"


WHOLE = json.dumps({"choices": [{"message": {"content": "The answer is B"}}], "usage": {"total_tokens": 9}}).encode()


def test_the_server_gets_text_and_images_in_time_order(serve, monkeypatch):
    stub = serve((200, streamed("A", " is", " it", usage={"prompt_tokens": 7}), True, 0))
    monkeypatch.setenv("STREAM_TEST_KEY", "secret")
    context = []
    for t in range(6):
        context += [TextPart(f"line {t}", t, t + 0.5), ImagePart(np.full((40, 90, 3), 40 * t, np.uint8), t)]
    answerer = make_answerer("openai", url=stub.url, model="m", max_images=3, pixels=600, key_env="STREAM_TEST_KEY")
    answer = answerer.answer(Request("what is it?", ("x", "y"), tuple(context), max_tokens=11, seed=4))
    assert answer.text == "A is it" and answer.usage == {"calls": 1, "prompt_tokens": 7}
    assert 0 < answer.ttft_ms <= answer.total_ms
    (path, body), headers = stub.bodies[0], stub.headers[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["max_tokens"], body["seed"], body["temperature"], body["stream"]) == (
        "m",
        11,
        4,
        0,
        True,
    )
    content = body["messages"][1]["content"]
    assert [part["text"] for part in content if part["type"] == "text" and "line" in part["text"]] == [
        f"[{t:.2f}-{t + 0.5:.2f} s] line {t}" for t in range(6)
    ]
    stamps = [part["text"] for part in content if part["type"] == "text" and "frame at" in part["text"]]
    assert stamps == ["[frame at 0.00 s]", "[frame at 2.00 s]", "[frame at 5.00 s]"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    for url, level in zip(urls, (0, 80, 200), strict=True):
        packed = np.frombuffer(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")), np.uint8)
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        assert image.shape[0] * image.shape[1] <= 600 and abs(image.mean() - level) < 3
        assert image.shape[1] / image.shape[0] == pytest.approx(90 / 40, rel=0.1)
    assert content[-1]["text"] == "what is it?\nA. x\nB. y\nAnswer with the letter alone."


def test_a_busy_server_is_tried_again(serve):
    stub = serve((429, b"slow down", False, 0), (503, b"", False, 0), (200, WHOLE, False, 0))
    answer = make_answerer("openai", url=stub.url, pause_s=0.01, stream=False).answer(Request("q", ("x", "y")))
    assert answer.choice == 1 and answer.usage == {"calls": 3, "total_tokens": 9} and answer.ttft_ms is None


@pytest.mark.parametrize(
    "plans, reason",
    [
        ([(500, b"broken", False, 0)] * 3, r"status 500: broken \(3 attempts\)"),
        ([(401, b"no key", False, 0)], "status 401: no key"),
        ([(200, b"<html>", False, 0)], "expected a chat completion, got <html>"),
        ([(200, b'{"choices": []}', False, 0)], "expected a chat completion"),
        ([(200, b"data: {oops\n\n", True, 0)], "expected JSON"),
        ([(200, b"data: [DONE]\n\n", True, 0)], "sent no text"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(serve, plans, reason):
    stub = serve(*plans)
    with pytest.raises(AnswererError, match=reason):
        make_answerer("openai", url=stub.url, retries=2, pause_s=0.01).answer(Request("q"))
    assert len(stub.bodies) == len(plans)


def test_nothing_hangs(serve):
    stub = serve((200, WHOLE, False, 5.0))
    began = time.monotonic()
    with pytest.raises(AnswererError, match="no answer within 0.2 s"):
        make_answerer("openai", url=stub.url, timeout_s=0.2).answer(Request("q"))
    assert time.monotonic() - began < 4
    gone = serve()
    gone.server.server_close()
    with pytest.raises(AnswererError, match="connection failed.*2 attempts"):
        make_answerer("openai", url=gone.url, retries=1, pause_s=0.01).answer(Request("q"))


def likely(**candidates):
    top = [{"token": token.replace("_", " "), "logprob": logprob} for token, logprob in candidates.items()]
    return {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}


def whole(text, logprobs=None):
    choice = {"message": {"content": text}} | ({"logprobs": logprobs} if logprobs else {})
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    "text, candidates, choice, parsed_by",
    [
        ("B", {"A": -1.0, "B": -0.9}, 1, "logprobs"),
        ("?", {"A": -3.0, "_B": -1.2, "B": -1.2}, 1, "logprobs"),
        ("The answer is A", {"The": -0.1, "B": -3.0}, 0, "pattern"),
        ("A dog, so the answer is B", {"A": -0.1, "B": -4.0}, 1, "pattern"),
        ("well", {"The": -0.1, "B": -3.0}, None, ""),
    ],
)
def test_log_probabilities_of_the_first_token_choose(serve, text, candidates, choice, parsed_by):
    stub = serve((200, whole(text, likely(**candidates)), False, 0))
    answer = make_answerer("openai", url=stub.url, stream=False).answer(Request("q", ("x", "y")))
    assert (answer.choice, answer.parsed_by) == (choice, parsed_by) and len(answer.logprobs) == 2
    body = stub.bodies[0][1]
    assert body["logprobs"] is True and body["top_logprobs"] == 20


def test_log_probabilities_are_read_from_a_stream_and_open_questions_ask_for_none(serve):
    pieces = [{"choices": [{"delta": {"content": "B"}, "logprobs": likely(B=-0.1)}]}, {"choices": [{"delta": {}}]}]
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces).encode()
    stub = serve((200, events, True, 0), (200, WHOLE, False, 0))
    answerer = make_answerer("openai", url=stub.url)
    answer = answerer.answer(Request("q", ("x", "y")))
    assert answer.parsed_by == "logprobs" and answer.choice == 1 and answer.ttft_ms > 0
    answerer.answer(Request("q"))
    assert "logprobs" not in stub.bodies[1][1]


def test_a_server_without_log_probabilities_is_asked_without_them(serve):
    refusal = (400, b'{"error": "Unsupported field: logprobs"}', False, 0)
    stub = serve(refusal, (200, WHOLE, False, 0), (200, WHOLE, False, 0), refusal, (200, WHOLE, False, 0))
    answerer = make_answerer("openai", url=stub.url)
    for calls in (2, 1):
        answer = answerer.answer(Request("q", ("x", "y")))
        assert answer.choice == 1 and answer.parsed_by == "pattern" and answer.usage["calls"] == calls
    assert ["logprobs" in body for _, body in stub.bodies] == [True, False, False]
    for reason in ("status 400.*logprobs", "gives no log-probabilities"):
        with pytest.raises(AnswererError, match=reason):
            make_answerer("openai", url=stub.url, logprobs="always").answer(Request("q", ("x", "y")))


def test_lines_are_written_only_for_who_reads_them():
    memory, written = make_stream_memory("last_k", slots=4), []
    for t in range(4):
        memory.write(np.ones((1, 128), np.float32), float(t))
    evidence = memory.read()

    def write():
        written.append(1)
        return tuple(evidence.text)

    lines = Lines(4, write)
    asked = replace(evidence, text=lines)
    takes = make_answerer("house-head").capabilities
    request = request_for("where?", asked, embeds=takes.embeds, text=takes.text)
    assert [type(part) for part in request.context] == [EmbedPart] and len(lines) == 4 and not written
    assert len(request_for("where?", asked).context) == 4 and lines[1] == evidence.text[1] and written == [1]
    assert lines == tuple(evidence.text) and hash(lines) == hash(tuple(lines))
