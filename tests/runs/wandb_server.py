"""A server that answers the W&B client as far as a run needs it, and keeps what it was sent: there is no other here."""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .tracker_records import Point

ENTITY = "team"
_CONNECTION = {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}


@dataclass
class ServedRun:
    """A remote run: its fields, its history as it was streamed, files that arrived, and the values of its summary."""

    project: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def points(self) -> Counter[Point]:
        """The numbers, as a multiset."""
        named = ((row["env_steps"], name, value) for row in self.history for name, value in row.items())
        return Counter(
            (step, name, float(value))
            for step, name, value in named
            if name != "env_steps" and not name.startswith("_") and not isinstance(value, dict)
        )


class Server:
    """What the server holds. Where ``on_rows`` is given it is called for rows that arrive, and they are refused."""

    def __init__(self) -> None:
        self.address = ""
        self.runs: dict[tuple[str, str], ServedRun] = {}
        self.on_rows: Callable[[], None] | None = None

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The ``data`` of an answer of GraphQL."""
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "1", "entity": ENTITY, "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            run = self.run(variables["project"], variables["name"])
            is_new = not run.fields
            run.fields |= {name: value for name, value in variables.items() if value is not None}
            return {"upsertBucket": {"bucket": self._bucket(run), "inserted": is_new}}
        key = variables.get("project"), variables.get("name") or variables.get("run")
        if operation == "RunResumeStatus":
            bucket = self._bucket(self.runs[key]) if key in self.runs else None
            return {"model": {**_project(key[0]), "bucket": bucket}}
        if operation == "CreateRunFiles":
            places = [
                {"name": name, "uploadUrl": f"{self.address}/{'/'.join(key)}/{name}"} for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": key[1], "uploadHeaders": [], "files": places}}
        if operation in ("Run", "RunHistoryKeys"):
            run = self.runs[key]
            keys = {"lastStep": max((row["_step"] for row in run.history), default=-1), "keys": {}}
            about = {"projectId": "1", "state": "finished", "historyKeys": keys, "user": {}, "group": None}
            return {"project": {"run": {**self._bucket(run), **about}}}
        if operation == "RunParquetHistory":
            live = [dict(row) for row in self.runs[variables["project"], variables["runName"]].history]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        if operation == "HistoryPage":
            rows = self.runs[key].history
            found = [json.dumps(row) for row in rows if variables["minStep"] <= row["_step"] < variables["maxStep"]]
            return {"project": {"run": {"history": found[: variables["pageSize"]]}}}
        return {}

    def run(self, project: str, name: str) -> ServedRun:
        """A run, made where it is new."""
        return self.runs.setdefault((project, name), ServedRun(project, name))

    def _bucket(self, run: ServedRun) -> dict[str, Any]:
        """A run as GraphQL has it."""
        tail = [json.dumps(row) for row in run.history[-1:]]
        return {
            "id": run.name,
            "name": run.name,
            "displayName": run.fields.get("displayName") or run.name,
            "config": run.fields.get("config") or "{}",
            "summaryMetrics": json.dumps(run.summary),
            "tags": run.fields.get("tags") or [],
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "wandbConfig": '{"t": 1}',
            "project": _project(run.project),
        }

    def stream(self, run: ServedRun, files: dict[str, Any]) -> None:
        """Takes pieces of files, each at its first line."""
        history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        lines = [json.loads(line) for line in history["content"]]
        run.history[history["offset"] : history["offset"] + len(lines)] = lines
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            run.summary = json.loads(line)


def _project(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


class _QuietServer(ThreadingHTTPServer):
    """Prints nothing about a client that is killed in the middle of a request; any other error is printed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def wandb_server() -> Iterator[Server]:
    """A server, at its address on this machine."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say({})

        def do_PUT(self) -> None:
            self._body()
            project, run, name = self.path[1:].split("/", 2)
            server.run(project, run).files.append(name)
            self._say({})

        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/graphql":
                asked = json.loads(body)
                operation = re.findall(r"(?m)^\s*(?:query|mutation)\s+(\w+)", asked["query"])[0]
                self._say({"data": server.answer(operation, asked.get("variables") or {})})
            elif self.path.endswith("/file_stream"):
                project, name = self.path.split("/")[-3:-1]
                files = json.loads(body).get("files") or {}
                if server.on_rows is not None and "wandb-history.jsonl" in files:
                    server.on_rows()
                    self._say({}, 503)
                    return
                server.stream(server.run(project, name), files)
                self._say({"exitcode": None, "limits": {}})
            else:
                self._say({})

        def _body(self) -> bytes:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

        def _say(self, answer: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    http = _QuietServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
