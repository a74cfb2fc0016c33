"""A Hugging Face hub on the loopback device: what its real client asks for, and the ways in which it can fail."""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Hub:
    """What the server has, does and was asked."""

    files: Mapping[str, bytes]
    """Content by ``owner/name/file``."""
    cut_times: int = 0
    """How many more transfers end after half of their bytes."""
    lies: Mapping[str, bytes] = field(default_factory=dict)
    """Content that is sent in place of that whose hash was announced."""
    address: str = ""
    ranges: list[str] = field(default_factory=list)
    """The ``Range`` headers of the transfers, in order."""
    requests: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.hub.requests += 1
        found = _RESOLVE.fullmatch(self.path)
        name = f"{found['repo']}/{found['file']}" if found else self.path.removeprefix("/storage/")
        if name not in self.hub.files:
            repository = name.rpartition("/")[0] + "/"
            known = any(each.startswith(repository) for each in self.hub.files)
            self._headers(404, **{"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"})
        elif found:
            content = self.hub.files[name]
            port = self.server.server_address[1]
            self._headers(
                302,
                **{
                    "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Linked-Size": len(content),
                    "Location": f"http://localhost:{port}/storage/{name}",  # another host, as that of the real hub
                },
            )
        else:
            self._send(name, with_body=with_body)

    def _headers(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": 0, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _send(self, name: str, *, with_body: bool) -> None:
        hub = self.hub
        content = hub.lies.get(name, hub.files[name])
        asked = self.headers.get("Range", "")
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(found[1]) if found else 0
        if start >= len(content):
            self._headers(416)
            return
        body = content[start:]
        headers: dict[str, object] = {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers |= {"Content-Length": len(body), "Accept-Ranges": "bytes", "ETag": '"storage"'}
        self._headers(206 if start else 200, **headers)
        if not with_body:
            return
        hub.ranges.append(asked)
        if hub.cut_times:
            hub.cut_times -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """Serve while the block runs. A file is answered with a redirection to a storage address, as large ones are."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
