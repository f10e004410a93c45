"""An OpenAI-compatible server on loopback that answers from a script, and fails as a test tells it to."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What happens to one request instead of its answer; `kind` is the name of a method `_send_…`, or `body`."""

    kind: str = "body"
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def completion(text: object, *, finish: object = "stop", tokens: int = 5, **message: object) -> dict[str, Any]:
    """The body of a whole answer."""
    said = {"role": "assistant", "content": text, **message}
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    return {"object": "chat.completion", "choices": [{"message": said, "finish_reason": finish}], "usage": usage}


def as_fault(body: object, status: int = 200, **headers: str) -> Fault:
    return Fault(status=status, body=json.dumps(body).encode(), headers=headers)


# Each is what the server does with one request.
TRANSIENT_FAULTS: dict[str, Fault] = {
    **{f"status {status}": as_fault({"error": {"message": "try later"}}, status) for status in (408, 409, 429)},
    **{f"status {status}": Fault(status=status, body=b"<html>bad</html>") for status in (500, 502, 503, 504)},
    **{
        f"retry-after {value}": Fault(status=429, headers={"Retry-After": value})
        for value in ("1", "Wed, 21 Oct 2065 07:28:00 GMT", "0", "-1", "1e9", "1000000000", "soon")
    },
    "reset mid-body": Fault("reset"),
    "closed at once": Fault("close"),
    "never answers": Fault("hang"),
    "headers, then hangs": Fault("headers_then_hang"),
    "one byte at a time": Fault("drip"),
    "truncated JSON": Fault(body=json.dumps(completion("[[1, 2], [3, 4]]")).encode()[:-30]),
    "HTML": Fault(body=b"<html><body>gateway</body></html>"),
    "empty body": Fault(),
    "no choices": as_fault({"choices": []}),
    "no object": as_fault([1, 2]),
    "an error with status 200": as_fault({"error": {"message": "overloaded", "code": 503}}),
    "half a UTF-8 letter": Fault(body=b'{"choices": [{"message": {"content": "\xc3'),
    "nested without end": Fault(body=b"[" * 200_000),
    "damaged gzip": Fault(body=b"\x1f\x8bnot gzip", headers={"Content-Encoding": "gzip"}),
}
FINAL_FAULTS: dict[str, Fault] = {
    **{f"status {status}": as_fault({"error": {"message": "no"}}, status) for status in (400, 413, 422)},
    "endless body": Fault("endless"),
    "5 MB of text": as_fault(completion("[1, 2, 3, 4] " * 400_000)),
    "gzip bomb": Fault(body=gzip.compress(bytes(100_000_000), 1), headers={"Content-Encoding": "gzip"}),
    "null content": as_fault(completion(None)),
    "only thoughts": as_fault(completion([{"type": "thinking", "thinking": "It is left."}], reasoning_content="Left.")),
    "a picture for an answer": as_fault(completion([{"type": "image_url", "image_url": {"url": "data:"}}])),
    "content that is a number": as_fault(completion(7)),
    "choices of text": as_fault({"choices": "[[1, 2], [3, 4]]"}),
    "no choices, but charged for": as_fault({**completion(""), "choices": []}),
    "another protocol": as_fault({"model": "m", "message": {"content": "[[1, 2], [3, 4]]"}, "done": True}),
    "a stream": Fault(body=b'data: {"choices": [{"delta": {"content": "[[1"}}]}\n\ndata: [DONE]\n\n'),
    "an error beside an answer": as_fault(completion("[[1, 2], [3, 4]]", finish="error")),
    "tool call": as_fault(completion(None, finish="tool_calls", tool_calls=[{"id": "x"}])),
    "tool call beside text": as_fault(completion("[[1, 2], [3, 4]]", tool_calls=[{"id": "x"}])),
    "ANSI escapes": as_fault(completion("\x1b[2J\x1b[31m[[1, 2], [3, 4]]\r")),
}


class ApiServer:
    """Answers `answers[question]`; `fault_of(question, nth)` says what the nth request for it gets instead.

    `fault_of_body(request)` says the same of a request by what is in it. `requests` counts what came for a question,
    `paid` the whole answers that were sent.
    """

    def __init__(
        self,
        answers: Mapping[str, str],
        fault_of: Callable[[str, int], Fault | None] = lambda question, nth: None,
        *,
        delay_seconds: float = 0.0,
        echo_key: bool = False,
        fault_of_body: Callable[[Mapping[str, Any]], Fault | None] = lambda request: None,
    ) -> None:
        self.answers = answers
        self.fault_of = fault_of
        self.fault_of_body = fault_of_body
        self.delay_seconds = delay_seconds
        self.echo_key = echo_key
        self.requests: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.authorizations: set[str | None] = set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serves until the block ends; the base URL."""
        handler = type("Handler", (_Handler,), {"api": self})
        server = _Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            self.closing.set()
            server.shutdown()
            server.server_close()

    @property
    def total(self) -> int:
        return sum(self.requests.values())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed, or that gave up on a fault


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        api = self.api
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = _question(request)
        with api.lock:
            nth = api.requests[question]
            api.requests[question] += 1
            api.bodies.append(request)
            api.times.append(time.monotonic())
            api.authorizations.add(self.headers["Authorization"])
            api.in_flight += 1
            api.most_in_flight = max(api.most_in_flight, api.in_flight)
        try:
            api.closing.wait(api.delay_seconds)
            fault = api.fault_of_body(request) or api.fault_of(question, nth)
            if fault is None:
                self._send_body(as_fault(completion(api.answers[question])))
                with api.lock:
                    api.paid[question] += 1
            else:
                getattr(self, f"_send_{fault.kind}")(fault)
        finally:
            with api.lock:
                api.in_flight -= 1

    def _send_body(self, fault: Fault) -> None:
        body = fault.body
        if self.api.echo_key and "Content-Encoding" not in fault.headers:
            key = (self.headers["Authorization"] or "").encode()
            inside = body.replace(b'{"object"', b'{"echo": "' + key + b'", "object"')
            body = inside if inside != body else body.replace(b'"no"', b'"' + key + b'"') or key
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_reset(self, _fault: Fault) -> None:
        self._start(10_000)
        self.wfile.write(b'{"choices": [')
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _send_close(self, _fault: Fault) -> None:
        self.close_connection = True

    def _send_hang(self, _fault: Fault) -> None:
        self.api.closing.wait(60)
        self.close_connection = True

    def _send_headers_then_hang(self, fault: Fault) -> None:
        self._start(10_000)
        self._send_hang(fault)

    def _send_drip(self, _fault: Fault) -> None:
        self._start(10_000)
        for _ in range(300):
            if self.api.closing.wait(0.1):
                break
            self.wfile.write(b" ")
            self.wfile.flush()
        self.close_connection = True

    def _send_endless(self, _fault: Fault) -> None:
        self._start(1_000_000_000)
        while not self.api.closing.is_set():
            self.wfile.write(bytes(65536))

    def _start(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        pass


def _question(request: Mapping[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "".join(texts).strip()
