"""A stand-in for the Hugging Face hub, on this machine: what of its protocol fetches files."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "owner/gated"
BROKEN = b"the server fails to send it"


class _Handler(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    """``OWNER/NAME/FILE`` -> content."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        content = self.files.get(f"{repo}/{name}")
        if repo == GATED:
            self._refuse(403, "GatedRepo")
        elif not any(key.startswith(f"{repo}/") for key in self.files):
            self._refuse(404, "RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif content is None:
            self._refuse(404, "EntryNotFound")
        elif content == BROKEN:
            self._refuse(501, "")
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def hub(files: dict[str, bytes], cache: str, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve files as the hub does, to the library's own client; yield what is asked.

    Args:
        files: ``OWNER/NAME/FILE`` -> content.
        cache: folder of the cache.
        patch: points the library there.
    """
    from huggingface_hub import constants

    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"files": files, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    place = f"http://127.0.0.1:{server.server_address[1]}"
    patch.setattr(constants, "ENDPOINT", place)
    patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
    )
    patch.setattr(constants, "HF_HUB_CACHE", cache)
    patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
