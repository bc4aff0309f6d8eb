"""A server on loopback that speaks as much of the Hugging Face hub as Minari uses, and keeps files in memory.

Reads and writes go through the real ``huggingface_hub`` client; large-file storage is not spoken, so every file comes
in the commit itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse


class Hub(ThreadingHTTPServer):
    """The server; ``repos`` maps a repository's id to its files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str) -> str:
        """A name for the present content, by which clients cache it."""
        digest = hashlib.sha1()
        for name, content in sorted(self.repos[repo].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.answer({"error": code}, 404, {"X-Error-Code": code})

    def info(self, repo: str) -> dict[str, Any]:
        files = [{"rfilename": name} for name in self.server.repos[repo]]
        sha = self.server.commit(repo)
        return {"id": repo, "sha": sha, "private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": files}

    def do_GET(self) -> None:
        address = urlparse(self.path)
        path, repos = unquote(address.path), self.server.repos
        if path == "/api/datasets":
            query = parse_qs(address.query)
            author = query.get("author", [""])[0]
            name = (query.get("dataset_name") or query.get("search") or [""])[0]
            found = [repo for repo in repos if repo.split("/")[0] == author and name in repo]
            return self.answer([self.info(repo) for repo in found])
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            repo, name = match.groups()
            if repo not in repos:
                return self.missing("RepoNotFound")
            if name not in repos[repo]:
                return self.missing("EntryNotFound")
            content = repos[repo][name]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(content, headers={"ETag": etag, "X-Repo-Commit": self.server.commit(repo)})
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/tree/[^/]+|/revision/[^/]+)?(/.*)?", path):
            repo, kind = match.group(1), match.group(2) or ""
            if repo not in repos:
                return self.missing("RepoNotFound")
            if not kind.startswith("/tree"):
                return self.answer(self.info(repo))
            blobs = repos[repo].items()
            tree = [{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in blobs]
            return self.answer(tree)
        return self.missing("Unknown")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, repos = unquote(urlparse(self.path).path), self.server.repos
        if self.headers.get("Authorization") in (None, "Bearer bad"):
            return self.answer({"error": "Unauthorized"}, 401)
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            if repo in repos:
                return self.answer({"error": "exists", "url": f"{self.server.url}/datasets/{repo}"}, 409)
            repos[repo] = {}
            return self.answer({"url": f"{self.server.url}/datasets/{repo}", "name": repo})
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/[^/]+", path):
            files = json.loads(body)["files"]
            return self.answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/[^/]+", path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repos[match.group(1)][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = self.server.commit(match.group(1))
            url = f"{self.server.url}/datasets/{match.group(1)}/commit/{commit}"
            return self.answer({"success": True, "commitOid": commit, "commitUrl": url})
        return self.missing("Unknown")


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    """Run a server in a thread."""
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
