from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import tiny_backbone

from intarsia.perception import (
    ChatNamer,
    NamerError,
    Vocabulary,
    VocabularyNamer,
    YamlNamer,
    namer_from_option,
)

IMAGE = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
MASK = np.zeros((40, 50), bool)
MASK[10:30, 12:35] = True


def answer(content: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


GOOD = answer(json.dumps({"colour": ["Red"], "material": [], "pattern": ["white stripes"], "mood": ["glad"]}))


@contextmanager
def endpoint(*replies: tuple[int, bytes] | float) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat endpoint that answers (status, body) one after the other; a number is seconds of silence."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append({"path": self.path, "key": self.headers["Authorization"], "body": json.loads(body)})
            reply = replies[min(len(asked), len(replies)) - 1]
            if isinstance(reply, float):
                time.sleep(reply)
                return
            self.send_response(reply[0])
            self.end_headers()
            self.wfile.write(reply[1])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intarsia.perception.chat_client._PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_the_chat_namer_asks_with_pictures_and_reads_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    with endpoint((200, GOOD)) as (url, asked):
        named = ChatNamer(url, "seer", api_key_env="A_KEY").name([IMAGE, IMAGE], [MASK, MASK], "duck")
    assert named == {"colour": ["red"], "pattern": ["white stripes"]}
    assert asked[0]["path"] == "/v1/chat/completions" and asked[0]["key"] == "Bearer secret"
    body = asked[0]["body"]
    assert body["model"] == "seer" and body["response_format"]["type"] == "json_schema"
    content = body["messages"][0]["content"]
    assert "duck" in content[0]["text"]
    urls = [part["image_url"]["url"] for part in content[1:]]
    assert len(urls) == 2 and all(url.startswith("data:image/png;base64,") for url in urls)


def test_malformed_and_busy_answers_are_asked_again() -> None:
    fenced = answer("```json\n" + json.dumps({"colour": "blue"}) + "\n```")
    bad = ((200, b"<html>"), (503, b""), (200, answer("red")), (200, answer('{"colour": [1]}')))
    for reply in bad:
        with endpoint(reply, (200, fenced)) as (url, asked):
            assert ChatNamer(url, "m", retries=1).name([IMAGE], [MASK], "duck") == {"colour": ["blue"]}
            assert len(asked) == 2
        with endpoint(reply) as (url, asked):
            with pytest.raises(NamerError, match=r"2 attempts") as caught:
                ChatNamer(url, "m", retries=1).name([IMAGE], [MASK], "duck")
            assert "\n" not in str(caught.value) and len(asked) == 2


def test_silence_ends_with_the_timeout() -> None:
    with endpoint(1.0) as (url, asked), pytest.raises(NamerError, match=r"within 0\.2 s"):
        ChatNamer(url, "m", timeout=0.2, retries=0).name([IMAGE], [MASK], "duck")
    assert len(asked) == 1


def test_a_refused_key_is_not_tried_again_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    with endpoint((401, b"no")) as (url, asked), pytest.raises(NamerError, match="A_KEY") as caught:
        ChatNamer(url, "m", api_key_env="A_KEY").name([IMAGE], [MASK], "duck")
    assert len(asked) == 1 and "secret" not in str(caught.value)


def test_nobody_there() -> None:
    with endpoint((200, GOOD)) as (url, _):
        pass
    with pytest.raises(NamerError, match="cannot be reached"):
        ChatNamer(url, "m", retries=0).name([IMAGE], [MASK], "duck")


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    with endpoint((200, GOOD)) as (url, asked):
        namer = ChatNamer(url, "m", cache_dir=tmp_path / "cache")
        first = namer.name([IMAGE], [MASK], "duck")
        assert namer.name([IMAGE], [MASK], "duck") == first and len(asked) == 1
        namer.name([IMAGE], [MASK], "goose")
        assert len(asked) == 2
        for path in (tmp_path / "cache").iterdir():
            path.write_text("{")
        assert namer.name([IMAGE], [MASK], "duck") == first and len(asked) == 3


def test_the_vocabulary_namer_finds_what_the_towers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the towers whose similarity counts right phrases in the caption."""
    backbone = tiny_backbone()
    seen: list[tuple[int, ...]] = []

    def similarity(images: torch.Tensor, texts: list[str]) -> torch.Tensor:
        seen.append(tuple(images.shape))
        phrases = {"red glass": 1.0, "red ": 1.0, "dots": 1.0, "with white dots": 2.0, "wearing": -1.0}
        scores = [sum(value for phrase, value in phrases.items() if phrase in text) for text in texts]
        return torch.tensor([scores] * len(images))

    monkeypatch.setattr(type(backbone), "image_text_similarity", lambda self, i, t: similarity(i, list(t)))
    named = VocabularyNamer(backbone).name([IMAGE, IMAGE], [MASK, MASK], "duck")
    assert named == {"colour": ["red"], "material": ["glass"], "pattern": ["white dots"]}
    assert set(seen) == {(2, 3, 64, 64)}


def test_the_vocabulary_namer_runs_on_real_towers_and_gives_words_of_its_vocabulary() -> None:
    words = Vocabulary.load()
    named = VocabularyNamer(tiny_backbone(), words).name([IMAGE], [MASK], "duck")
    assert named["colour"][0] in words.values("colour") and named["material"][0] in words.values("material")
    assert VocabularyNamer(tiny_backbone(), words).name([IMAGE], [MASK], "duck") == named


def test_the_model_folders_own_vocabulary_comes_first(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.yaml").write_text("named:\n  colour: {mauve: []}\n")
    backbone = dataclasses.replace(tiny_backbone(), path=tmp_path)
    assert VocabularyNamer(backbone).name([IMAGE], [MASK], "duck") == {"colour": ["mauve"]}


def test_the_vocabulary_namer_says_what_it_needs() -> None:
    with pytest.raises(NamerError, match="no image encoder"):
        VocabularyNamer(tiny_backbone(image_encoder=False))
    with pytest.raises(NamerError, match="2 photos with 1 masks"):
        VocabularyNamer(tiny_backbone()).name([IMAGE, IMAGE], [MASK], "duck")
    with pytest.raises(NamerError, match="empty"):
        VocabularyNamer(tiny_backbone()).name([IMAGE], [np.zeros_like(MASK)], "duck")


def test_the_yaml_namer_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "duck.yaml"
    path.write_text("colour: Red\nmaterial: [clay, ' Clay ']\npattern: []\nparts:\n")
    assert YamlNamer(path).name([], [], "duck") == {"colour": ["red"], "material": ["clay"]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mood: [sad]", "'mood'"),
        ("colour: [1]", "not words"),
        ("- red", "kinds"),
        ("a: [", "not YAML"),
        ("", "kinds"),
    ],
)
def test_a_bad_attribute_file_says_why(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "duck.yaml"
    path.write_text(text)
    with pytest.raises(NamerError, match=complaint):
        YamlNamer(path).name([], [], "duck")


def test_namers_by_option(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    assert isinstance(namer_from_option("vocabulary", backbone), VocabularyNamer)
    yaml = namer_from_option(f"yaml:{tmp_path / 'a:b.yaml'}", backbone)
    assert isinstance(yaml, YamlNamer) and yaml.path == tmp_path / "a:b.yaml"
    chat = namer_from_option("openai:http://host:8000/v1#org/model", backbone)
    assert isinstance(chat, ChatNamer)
    assert (chat.url, chat.model) == ("http://host:8000/v1/chat/completions", "org/model")
    for option in ("", "yaml:", "openai:http://host/v1", "oracle"):
        with pytest.raises(NamerError, match="yaml:PATH"):
            namer_from_option(option, backbone)
    with pytest.raises(NamerError, match="ftp://x"):
        namer_from_option("openai:ftp://x#m", backbone)


def test_an_attribute_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NamerError, match="cannot be read"):
        YamlNamer(tmp_path / "no.yaml").name([], [], "duck")
