"""A stand-in of the Hugging Face hub: it takes what the hub's own client sends, and judges cards.

Of the rules for cards it has those that the hub states: the YAML is one mapping, ids and licences
are identifiers, and every result has a task, a data set and metrics with a type and a value.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_writer"


@dataclass
class HubState:
    """What the stand-in knows."""

    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    address: str = ""


def faults_of_card(text: str) -> list[str]:
    """Say what the hub would refuse of a model card."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if found is None:
        return ["no metadata"]
    data = yaml.safe_load(found[1])
    if not isinstance(data, dict):
        return ["metadata is no mapping"]
    faults = [
        f"{key} is no identifier"
        for key in ("license", "library_name", "pipeline_tag")
        if key in data and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", str(data[key]))
    ]
    faults += [
        f"{key} is no list of texts"
        for key in ("tags", "datasets")
        if not all(isinstance(one, str) and one for one in data.get(key, []))
    ]
    for name in data.get("datasets", []):
        if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", name, re.ASCII):
            faults.append(f"{name} is no data set")
    return faults + [fault for model in data.get("model-index", []) for fault in _of_model(model)]


def _of_model(model: dict[str, Any]) -> Iterator[str]:
    if not isinstance(model.get("name"), str):
        yield "a model without a name"
    for result in model["results"]:
        if "type" not in result["task"] or not {"type", "name"} <= set(result["dataset"]):
            yield "a result of nothing"
        for metric in result["metrics"]:
            if "type" not in metric or not isinstance(metric.get("value"), int | float):
                yield f"{metric} has no value"


class _Handler(BaseHTTPRequestHandler):
    hub: HubState

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        if status >= 400:
            self.send_header("X-Error-Message", str(value))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _place(self) -> str | None:
        """Give the path that is asked for; None where the token may not."""
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        if path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid credentials"}, 401)
            return None
        return path

    def do_GET(self) -> None:
        path = self._place()
        if path is None:
            return
        name = path.removeprefix("/api/models/")
        if path == "/api/whoami-v2":
            self._answer({"type": "user", "name": "me", "orgs": []})
        elif name in self.hub.repositories:
            self._answer(self.hub.repositories[name])
        else:
            self._answer({"error": "Repository not found"}, 404)

    def do_POST(self) -> None:
        path = self._place()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path is None:
            return
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            faults = faults_of_card(json.loads(body)["content"])
            self._answer({"errors": [{"message": one} for one in faults], "warnings": []},
                         400 if faults else 200)  # fmt: skip
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._answer({"files": [{"path": one["path"], **regular} for one in files]})
        elif "/commit/" in path:
            self._commit(body, path)
        else:
            self._answer({"error": f"no {path}"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or "me"
        name = f"{owner}/{asked['name']}"
        address = f"{self.hub.address}/{name}"
        if owner != "me":
            self._answer({"error": "You don't have the rights"}, 403)
        elif name in self.hub.repositories:
            self._answer({"error": "exists", "url": address}, 409)
        else:
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.hub.repositories[name] = {"id": name, "private": private, "siblings": []}
            self._answer({"url": address, "name": name, "id": "1"})

    def _commit(self, body: bytes, path: str) -> None:
        for line in body.decode().splitlines():
            part = json.loads(line)
            if part["key"] == "file":
                content = part["value"]["content"]
                self.hub.files[part["value"]["path"]] = base64.b64decode(content)
        name = re.sub(r"/api/models/(.*)/commit/.*", r"\1", path)
        address = f"{self.hub.address}/{name}/commit/abc"
        self._answer({"commitUrl": address, "commitOid": "abc", "pullRequestUrl": None})


@contextmanager
def hub_server() -> Iterator[HubState]:
    """Serve on a free port of this machine."""
    state = HubState()
    handler = type("Handler", (_Handler,), {"hub": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
