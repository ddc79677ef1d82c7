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
    KINDS,
    ChatNamer,
    ClipNamer,
    NamerError,
    VisionAdvisor,
    Vocabulary,
    VocabularyError,
    VocabularyNamer,
    YamlNamer,
    check_namer_option,
    namer_from_option,
)

IMAGE = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
MASK = np.zeros((40, 50), bool)
MASK[10:30, 12:35] = True


def answer(content: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


GOOD = answer(json.dumps({"colour": ["Red"], "material": [], "pattern": ["white stripes"], "mood": ["glad"]}))


Reply = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]


@contextmanager
def endpoint(*replies: Reply | float) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A chat endpoint that answers (status, body, headers) one after the other; a number is seconds of silence."""
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
            for header, value in reply[2].items() if len(reply) == 3 else ():
                self.send_header(header, value)
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
    with pytest.raises(NamerError, match=r"no image encoder.*--namer clip:MODEL, openai:URL#MODEL, vlm:MODEL or yaml:"):
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
    assert isinstance(namer_from_option("vlm:org/model@abc", backbone), VisionAdvisor)
    clip = namer_from_option("clip:org/model", backbone)
    assert isinstance(clip, ClipNamer) and clip.vocabulary.named == Vocabulary.for_photos().named
    (tmp_path / "words.yaml").write_text("named:\n  colour: {mauve: []}\n")
    own = namer_from_option(f"clip:org/model#{tmp_path / 'words.yaml'}", backbone)
    assert isinstance(own, ClipNamer) and own.vocabulary.values("colour") == ("mauve",)
    with pytest.raises(VocabularyError, match=r"no\.yaml"):
        namer_from_option(f"clip:org/model#{tmp_path / 'no.yaml'}", backbone)
    for option in ("", "yaml:", "openai:http://host/v1", "vlm:", "clip:", "clip:model#", "vocabulary:x", "oracle"):
        for ask in (check_namer_option, lambda text: namer_from_option(text, backbone)):
            with pytest.raises(NamerError, match="yaml:PATH"):
                ask(option)
    with pytest.raises(NamerError, match="ftp://x"):
        namer_from_option("openai:ftp://x#m", backbone)


def test_an_attribute_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NamerError, match="cannot be read"):
        YamlNamer(tmp_path / "no.yaml").name([], [], "duck")


class CountsPhrases:
    """A scorer whose similarity counts right phrases in the caption."""

    name = "counts"

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def similarity(self, crops: Any, texts: Any) -> Any:
        self.shapes |= {crop.shape for crop in crops}
        phrases = {"red leather": 1.0, "red ": 1.0, "with white dots": 2.0, "wearing": -1.0}
        scores = [sum(value for phrase, value in phrases.items() if phrase in text) for text in texts]
        return np.array([scores, [0.0] * len(texts)], np.float32)


def test_the_clip_namer_finds_what_any_encoder_says() -> None:
    scorer, loads = CountsPhrases(), []
    namer = ClipNamer(lambda: loads.append(1) or scorer)  # type: ignore[func-returns-value]
    assert loads == []
    named = namer.name([IMAGE, IMAGE], [MASK, MASK], "bag")
    assert named == {"colour": ["red"], "material": ["leather"], "pattern": ["white dots"]}
    namer.name([IMAGE], [MASK], "bag")
    assert loads == [1] and all(height < 40 and width < 50 for height, width, _ in scorer.shapes)
    namer.release()
    namer.name([IMAGE], [MASK], "bag")
    assert loads == [1, 1]
    with pytest.raises(NamerError, match="empty"):
        namer.name([IMAGE], [np.zeros_like(MASK)], "bag")


def test_the_clip_namer_reads_a_models_folder(tmp_path: Path) -> None:
    from tests.perception.test_model_helpers import tiny_clip

    for part in tiny_clip():
        part.save_pretrained(tmp_path / "clip")
    (tmp_path / "words.yaml").write_text("named:\n  colour: {red: [], blue: []}\n  material: {clay: [], glass: []}\n")
    option = f"clip:{tmp_path / 'clip'}#{tmp_path / 'words.yaml'}"
    named = namer_from_option(option, tiny_backbone()).name([IMAGE], [MASK], "duck")
    assert named["colour"][0] in ("red", "blue") and named["material"][0] in ("clay", "glass") and len(named) == 2
    with pytest.raises(NamerError, match="cannot be loaded"):
        ClipNamer.of(str(tmp_path / "none")).name([IMAGE], [MASK], "duck")


def test_prompts_are_understood_in_all_words_for_photos() -> None:
    """What `clip:` names must be seen to be contradicted, by the vocabulary that reads prompts."""
    photos, reading = Vocabulary.for_photos(), Vocabulary.load()
    for kind in KINDS:
        for value in photos.values(kind):
            assert [mention.kind for mention in reading.mentions(value)][-1:] == [kind], value
