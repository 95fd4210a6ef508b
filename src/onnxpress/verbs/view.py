"""A model's graph as Netron's page on this machine; nothing leaves it.

Netron's own server is left alone, since the page that it serves asks ipinfo.io for the reader's
country and reports to Google Analytics. Here it is served as an unpackaged build, which does not
report; with the cookie that says the question of cookies was answered, so that it asks nobody;
and under a policy by which a browser connects to this server only.
"""

from __future__ import annotations

import html
import http.server
import importlib.util
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from onnxpress.errors import InputError, MissingExtra
from onnxpress.model import external_data_files, load

PACKAGE, EXTRA = "netron", "view"
HOST = "127.0.0.1"
TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
}
"""What of the package is part of the page."""
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self'; "
    "frame-src 'none'; form-action 'none'; base-uri 'none'"
)
"""Content-Security-Policy: no connection, image or script of another host."""
UNPACKAGED = "0.0.0"
"""The version that Netron's page takes for a build that reports nothing."""


@contextmanager
def served(path: Path, port: int = 0) -> Iterator[tuple[http.server.HTTPServer, str]]:
    """A server of the page, and its address; port 0 is any free one. It closes with the block.

    Raises ``MissingExtra`` without Netron, ``ModelError`` for what is no ONNX, ``InputError``
    for a port that is taken or none.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingExtra.of(PACKAGE, EXTRA, "to show a graph")
    model = load(path)
    files = {file.name: file for file in (Path(path), *external_data_files(model))}
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}", "a number up to 65535; 0 for any free one")
    handler = partial(_Page, root=_root(), model=Path(path).name, files=files)
    try:
        server = http.server.ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise InputError(
            f"--port {port} ({error.strerror or error})", "a free port", "leave it out for any"
        ) from error
    with server:
        yield server, f"http://{HOST}:{server.server_address[1]}/"


def _root() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class _Page(http.server.BaseHTTPRequestHandler):
    """Netron's files, and under ``/data/`` the model and its external data; nothing else."""

    server_version, sys_version = "onnxpress", ""

    def __init__(
        self, *arguments: object, root: Path, model: str, files: Mapping[str, Path]
    ) -> None:
        self._root, self._model, self._files = root, model, files
        super().__init__(*arguments)  # type: ignore[arg-type]  # as socketserver hands them over

    def do_GET(self) -> None:
        found = self._found() if self._is_ours() else None
        if found is None:
            self.send_error(404)
            return
        kind, content = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if kind.startswith("text/html"):
            self.send_header("Set-Cookie", "consent=1; SameSite=Strict")
        if isinstance(content, bytes):
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self._write(content)
            return
        self.send_header("Content-Length", str(content.stat().st_size))
        self.end_headers()
        with content.open("rb") as file:
            while part := file.read(1 << 20):
                self._write(part)

    def _write(self, part: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(part)

    do_HEAD = do_GET  # noqa: N815  # http.server's name

    def _found(self) -> tuple[str, bytes | Path] | None:
        """The type and the content, or the file of it."""
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        folder, _, name = path.lstrip("/").rpartition("/")
        if folder == "data":
            file = self._files.get(name)
            return None if file is None else ("application/octet-stream", file)
        name = name or "index.html"
        kind, file = TYPES.get(Path(name).suffix), self._root / name
        if folder or kind is None or not file.is_file():
            return None
        return kind, self._index(file.read_text("utf-8")) if name == "index.html" else file

    def _index(self, page: str) -> bytes:
        """The page, told which model to fetch from here."""
        name = html.escape(self._model)
        told = {
            "type": "Python",
            "version": UNPACKAGED,
            "file": f"/data/{urllib.parse.quote(self._model)}",
            "name": name,
            "identifier": name,
        }
        meta = "\n".join(f'<meta name="{key}" content="{text}">' for key, text in told.items())
        page = re.sub(r'<meta name="(version|date)" content="[^"]*">', "", page)
        return page.replace("<head>", f"<head>\n{meta}", 1).encode()

    def _is_ours(self) -> bool:
        """A page elsewhere must not reach the model under a name of its own for this address."""
        host = self.headers.get("Host", "").partition(":")[0]
        return host in (HOST, "localhost")

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # its name
        """Nothing: the terminal is the user's."""
