"""A web server on the loopback device that serves bytes, and can fail in the ways that servers do."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath


@contextmanager
def serving(
    files: Mapping[str, bytes], *, cut: Collection[str] = (), cut_chunked: Collection[str] = ()
) -> Iterator[str]:
    """Serve files by their names while the block runs; yield the address, which ends in a slash.

    Args:
        files: content by name; any other name is answered with 404.
        cut: names whose connection ends after half of the announced bytes.
        cut_chunked: names that are sent in chunks, without a length, and whose connection ends before the last one.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = PurePosixPath(self.path.partition("?")[0]).name
            self.close_connection = True
            if name not in files:
                self.send_error(404)
                return
            content = files[name]
            is_cut = name in cut or name in cut_chunked
            self.send_response(200)
            self.send_header("Connection", "close")
            if name in cut_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = content[: len(content) // 2] if is_cut else content
            try:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(half), half) if name in cut_chunked else half)
            except ConnectionError:
                return  # the client only wanted to know whether the file is there

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
