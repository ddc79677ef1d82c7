"""What an endpoint, or the key and the address that lead to it, can get wrong: one line, and no secrets in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.perception.test_namers import GOOD, IMAGE, MASK, answer, endpoint, no_pause

from intarsia.perception import (
    ChatClient,
    ChatNamer,
    HelperAwayError,
    HelperError,
    Helpers,
    NamerError,
    PerceptionError,
    WriterOption,
    namer_from_option,
)

__all__ = ["no_pause"]

SCHEMA = {"type": "object"}


def ask(client: ChatClient) -> dict[str, object]:
    return client.ask("what?", [np.zeros((2, 2, 3), np.uint8)], SCHEMA, "it", dict)


def test_a_keys_line_break_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " secret\r\n")
    with endpoint((200, GOOD)) as (url, asked):
        ChatNamer(url, "m", api_key_env="A_KEY").name([IMAGE], [MASK], "duck")
    assert asked[0]["key"] == "Bearer secret"


@pytest.mark.parametrize("key", ["sec\nret", "sec\rret", "secrét", "sec\x7fret", "sec\u2028ret"])
def test_what_cannot_be_a_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", key)
    with endpoint((200, GOOD)) as (url, asked):
        with pytest.raises(HelperAwayError, match="A_KEY") as caught:
            ask(ChatClient(url, "m", api_key_env="A_KEY"))
        with pytest.raises(NamerError, match="A_KEY"):
            ChatNamer(url, "m", api_key_env="A_KEY").name([IMAGE], [MASK], "duck")
    assert asked == [] and "sec" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_get_neither_key_nor_photos(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    with (
        endpoint((200, GOOD)) as (elsewhere, asked),
        endpoint((status, b"", {"Location": f"{elsewhere}/chat/completions"})) as (url, _),
        pytest.raises(HelperAwayError, match=f"{status}: .*use the final address") as caught,
    ):
        ask(ChatClient(url, "m", api_key_env="A_KEY"))
    assert asked == [] and elsewhere not in str(caught.value)


def test_json_nested_too_deeply_is_a_wrong_answer(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for reply in (deep.encode(), answer('{"a": ' + deep + "}")):
        with endpoint((200, reply)) as (url, asked), pytest.raises(HelperError, match="not the JSON asked for"):
            ask(ChatClient(url, "m", retries=1))
        assert len(asked) == 2
    with endpoint((200, answer('{"a": 1}'))) as (url, asked):
        client = ChatClient(url, "m", cache_dir=tmp_path)
        ask(client)
        for path in tmp_path.iterdir():
            path.write_text(deep)
        assert ask(client) == {"a": 1} and len(asked) == 2


@pytest.mark.parametrize(
    "address",
    ["http://[::1/v1", "http://host:99999/v1", "http://host:x/v1", "http://hóst/v1", "http://host/v 1", "http://host\n/v1",
     "http:///v1", "host/v1", "file:///v1", ""],
)  # fmt: skip
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(HelperError, match=r"not the address of an endpoint: use http") as caught:
        ChatClient(address, "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["http://me:hush@host/v1", "http://me:hush@host:x/v1", "http://me:hu?sh@host/v1", "http://host:x/v1?key=hush",
     "http://host:x/v1?key=a@hush", "ftp://me:hush@host", "http://me@hush:x/v1"],
)  # fmt: skip
def test_a_password_or_query_in_an_address_is_not_shown(address: str) -> None:
    with pytest.raises(PerceptionError, match="endpoint") as caught:
        ChatClient(address, "m")
    assert "hush" not in str(caught.value) and "sh@" not in str(caught.value)
    for make in (
        lambda: namer_from_option(f"openai:{address}", None),  # type: ignore[arg-type]
        lambda: Helpers(tagger=f"openai:{address}"),
        lambda: WriterOption(writer=f"openai:{address}"),
    ):
        with pytest.raises(PerceptionError) as caught:
            make()
        assert "hush" not in str(caught.value)


def test_a_query_is_sent_but_neither_shown_nor_kept(tmp_path: Path) -> None:
    with endpoint((200, answer('{"a": 1}'))) as (url, asked):
        client = ChatClient(f"{url}/?key=hush", "m", cache_dir=tmp_path, retries=0)
        ask(client)
        assert asked[0]["path"] == "/v1/chat/completions?key=hush" and client.url == f"{url}/chat/completions"
        ask(ChatClient(url, "m", cache_dir=tmp_path))
        assert len(asked) == 1
    assert all("hush" not in path.name + path.read_text() for path in tmp_path.iterdir())
    for status in (400, 500):
        with endpoint((status, b"")) as (url, _), pytest.raises(HelperError, match=f"{status}") as caught:
            ask(ChatClient(f"{url}?key=hush", "m", retries=0))
        assert "hush" not in str(caught.value)
    with pytest.raises(HelperError, match="cannot be reached") as caught:
        ask(ChatClient(f"{url}?key=hush", "m", retries=0))
    assert "hush" not in str(caught.value)


def test_plain_json_is_what_is_kept(tmp_path: Path) -> None:
    with endpoint((200, answer('{"a": 1}'))) as (url, _):
        ask(ChatClient(url, "m", cache_dir=tmp_path))
    assert [json.loads(path.read_text()) for path in tmp_path.iterdir()] == [{"a": 1}]
