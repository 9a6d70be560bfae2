"""As much of the WebDriver protocol as opening a page and asking about it takes."""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    DRIVER is None or BROWSER is None, reason="no chromium and chromedriver on this machine"
)


class Browser:
    """A session with a headless browser."""

    def __init__(self, port: int, session: str) -> None:
        self.base = f"http://127.0.0.1:{port}/session/{session}"

    def open(self, address: str) -> None:
        call(f"{self.base}/url", {"url": address})

    def run(self, script: str) -> Any:
        return call(f"{self.base}/execute/sync", {"script": script, "args": []})

    def run_async(self, script: str) -> Any:
        """Run a script that gives its value to its last argument, a function."""
        return call(f"{self.base}/execute/async", {"script": script, "args": []})

    def resize(self, width: int, height: int) -> None:
        call(f"{self.base}/window/rect", {"width": width, "height": height})

    def emulate(self, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Show the page as on another device: a window has a least width, its content has not."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def devtools(self, command: str, params: dict[str, Any]) -> Any:
        return call(f"{self.base}/goog/cdp/execute", {"cmd": command, "params": params})

    def press(self, key: str) -> None:
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        call(f"{self.base}/actions", {"actions": [{"type": "key", "id": "k", "actions": keys}]})

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last time: ``browser`` or ``performance``."""
        found: list[dict[str, Any]] = call(f"{self.base}/se/log", {"type": kind})
        return found

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        events = [json.loads(m["message"])["message"] for m in self.messages("performance")]
        sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
        return [str(e["params"]["request"]["url"]) for e in sent]


def call(url: str, value: Any = None, method: str = "POST") -> Any:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, body, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


@contextlib.contextmanager
def browser(*, dark: bool = False) -> Iterator[Browser]:
    assert DRIVER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([DRIVER, f"--port={port}", "--silent"])
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    call(f"http://127.0.0.1:{port}/status", method="GET")
                    break
                time.sleep(0.1)
            arguments = [
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--disable-background-networking", f"--user-data-dir={profile}"),
                *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            ]
            options = {
                "goog:chromeOptions": {"binary": BROWSER, "args": arguments},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = call(
                f"http://127.0.0.1:{port}/session", {"capabilities": {"alwaysMatch": options}}
            )
            yield Browser(port, session["sessionId"])
            call(f"http://127.0.0.1:{port}/session/{session['sessionId']}", method="DELETE")
        finally:
            process.terminate()
            process.wait(timeout=20)
