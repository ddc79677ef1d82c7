"""The little of the Hub's protocol that fetching needs, on loopback; and a cache as the Hub's library lays it out."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".pth", ".patch")


def diffusers_files(towers: int = 1, *, variant: str = ".fp16") -> dict[str, bytes]:
    """The files of a model in the diffusers layout; their bytes mean nothing."""
    name = "StableDiffusionXLPipeline" if towers == 2 else "StableDiffusionPipeline"
    found = {
        "model_index.json": json.dumps({"_class_name": name}).encode(),
        "scheduler/scheduler_config.json": b'{"of": "scheduler"}',
    }
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    if towers == 2:
        stems["text_encoder_2"] = "model"
    for part, stem in stems.items():
        found[f"{part}/config.json"] = json.dumps({"of": part}).encode()
        found[f"{part}/{stem}{variant}.safetensors"] = f"weights of {part}".encode() * 20_000
    unet = {"in_channels": 4, "addition_embed_type": "text_time" if towers == 2 else None}
    found["unet/config.json"] = json.dumps(unet).encode()
    for part in ("tokenizer", "tokenizer_2")[:towers]:
        found |= {f"{part}/vocab.json": json.dumps({part: 0}).encode(), f"{part}/merges.txt": part.encode()}
    return found


def fill_cache(
    cache: Path, repository: str, files: Mapping[str, bytes], commit: str = COMMIT, ref: str = "main"
) -> Path:
    """Write files as the Hub's library does: blobs, a snapshot of links to them, and a ref. -> the snapshot."""
    storage = cache / f"models--{repository.replace('/', '--')}"
    for name, content in files.items():
        blob = storage / "blobs" / hashlib.sha256(content).hexdigest()
        pointer = storage / "snapshots" / commit / name
        for path in (blob, pointer):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(blob)
    if ref:
        (storage / "refs").mkdir(exist_ok=True)
        (storage / "refs" / ref).write_text(commit)
    return storage / "snapshots" / commit


@dataclass
class Hub:
    """What the server holds and what it was asked for."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    """Files of which other bytes come than the listing says."""
    cut: dict[str, int] = field(default_factory=dict)
    """File -> after how many bytes the connection breaks; from then on it is not served, until it is taken out."""
    gated: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, range)"""
    sent: dict[str, int] = field(default_factory=dict)

    def ranges(self, name: str) -> list[str | None]:
        return [range_ for method, path, range_ in self.asked if method == "GET" and path.endswith(f"/{name}")]


@contextmanager
def serving() -> Iterator[Hub]:
    hub, broken = Hub(), set[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *given: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            hub.asked.append((self.command, path, self.headers.get("Range")))
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._api("/".join(parts[2:4]), *parts[4:6])
            elif len(parts) < 5:
                self._answer(404, b"", {})
            else:
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def _api(self, repository: str, what: str = "", revision: str = "main") -> None:
            files = hub.repositories.get(repository)
            if hub.gated:
                return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if files is None:
                return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if revision not in ("main", COMMIT):
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            sha = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            large = {name for name in files if name.endswith(_LARGE)}
            if what == "tree":
                rows: object = [
                    {"type": "file", "path": name, "size": len(content), "oid": sha[name][:40]}
                    | ({"lfs": {"oid": sha[name], "size": len(content), "pointerSize": 9}} if name in large else {})
                    for name, content in files.items()
                ]
            else:
                siblings = [
                    {"rfilename": name, "size": len(content), "blobId": sha[name][:40]}
                    | ({"lfs": {"sha256": sha[name], "size": len(content), "pointerSize": 9}} if name in large else {})
                    for name, content in files.items()
                ]
                rows = {"id": repository, "sha": COMMIT, "siblings": siblings}
            self._answer(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})

        def _file(self, repository: str, revision: str, name: str) -> None:
            content = hub.repositories[repository][name]
            sha = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha if name.endswith(_LARGE) else sha[:40]}"'}
            if name in hub.corrupt:
                content = content[:-1] + b"?"
            if name in broken and name in hub.cut:
                return self._answer(500, b"", {})
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            cut = hub.cut.get(name) if self.command == "GET" else None
            self._answer(206 if start else 200, body, headers, cut)
            if self.command == "GET":
                hub.sent[name] = hub.sent.get(name, 0) + len(body[:cut])
            if cut is not None:
                broken.add(name)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
