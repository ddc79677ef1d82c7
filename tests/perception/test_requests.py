"""The paper's three requests: to a real HTTP server on loopback, and to a local vision-language model."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.perception.test_namers import GOOD, IMAGE, MASK, answer, endpoint, no_pause

from intarsia.perception import (
    KINDS,
    AttributeAdvisor,
    ChatNamer,
    NamerError,
    VisionAdvisor,
    VisionAsker,
    YamlNamer,
    namer_from_option,
)

__all__ = ["no_pause"]

DUCK = {"colour": ["red"], "material": ["clay"], "pattern": ["white stripes"]}


def caption(text: str, **attributes: Any) -> dict[str, Any]:
    return {"text": text, "attributes": [{"kind": kind, "value": value} for kind, value in attributes.items()]}


BLUE = caption("a photo of a blue toy duck with white stripes.", colour="Blue", pattern="white stripes")
GLASS = caption("a  glass Toy duck", material="glass")


def prompts(*given: Any) -> bytes:
    return answer(json.dumps({"prompts": list(given)}))


def conflicts(*values: Any) -> bytes:
    return answer(json.dumps({"conflicts": list(values)}))


def test_prompts_are_recombined_from_the_dictionary() -> None:
    with endpoint((200, prompts(BLUE, GLASS, GLASS))) as (url, asked):
        advisor: AttributeAdvisor = ChatNamer(url, "seer")
        found = advisor.recombine(DUCK, " toy  duck ", 2, 7)
    assert [prompt.text for prompt in found] == ["a photo of a blue toy duck with white stripes", "a glass Toy duck"]
    assert [dict(prompt.attributes) for prompt in found] == [
        {"colour": "blue", "pattern": "white stripes"},
        {"material": "glass"},
    ]
    body = asked[0]["body"]
    question = body["messages"][0]["content"]
    assert (
        len(question) == 1 and "colour: red; material: clay" in question[0]["text"] and "draw 7" in question[0]["text"]
    )
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["additionalProperties"] is False
    item = schema["schema"]["properties"]["prompts"]["items"]["properties"]["attributes"]["items"]
    assert item["properties"]["kind"]["enum"] == list(KINDS) and item["required"] == ["kind", "value"]


def test_many_prompts_are_asked_for_in_parts_and_none_without_a_question() -> None:
    first = [caption(f"a duck of {word}", material=word) for word in (f"stuff{n}" for n in range(20))]
    others = [caption(f"a duck of {word}", material=word) for word in (f"matter{n}" for n in range(5))]
    with endpoint((200, prompts(*first)), (200, prompts(*others))) as (url, asked):
        advisor = ChatNamer(url, "m")
        assert len(advisor.recombine(DUCK, "duck", 25, 0)) == 25 and len(asked) == 2
        texts = [ask["body"]["messages"][0]["content"][0]["text"] for ask in asked]
        assert "Write 20 " in texts[0] and "Write 5 " in texts[1] and "set 2 of" in texts[1]
        assert advisor.recombine(DUCK, "duck", 0, 0) == [] and len(asked) == 2
        with pytest.raises(NamerError, match="-1 prompts"):
            advisor.recombine(DUCK, "duck", -1, 0)
        with pytest.raises(NamerError, match="class noun"):
            advisor.recombine(DUCK, " ", 1, 0)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (answer(json.dumps({"captions": [BLUE]})), "gives no prompts"),
        (answer(json.dumps({"prompts": "a blue duck"})), "gives no prompts"),
        (answer(json.dumps([BLUE])), "gives no prompts"),
        (prompts(), "gives 0 prompts: 1 were"),
        (prompts("a blue toy duck"), "another form"),
        (prompts({"text": 3, "attributes": []}), "another form"),
        (prompts({"text": "a blue toy duck", "attributes": {"colour": "blue"}}), "another form"),
        (prompts(caption("a blue goose", colour="blue")), "without 'toy duck'"),
        (prompts(caption("a blue toy ducking", colour="blue")), "without 'toy duck'"),
        (prompts(caption("a toy duck")), "with 0 attributes"),
        (prompts(caption("a red big clay toy duck, lid", colour="red", shape="big", material="clay", parts="lid")),
         "with 4 attributes"),
        (prompts(caption("a toy duck", colour="blue")), "use words of the prompt"),
        (prompts(caption("a toy duck", shape="toy duck")), "use words of the prompt"),
        (prompts(caption("a toy duck 3", shape="3")), "use words of the prompt"),
        (prompts(caption("a glad toy duck", mood="glad")), "one value of each"),
        (prompts(caption("a blue toy duck", colour=["blue"])), "one value of each"),
        (prompts({"text": "a red blue toy duck", "attributes": [{"kind": "colour", "value": word} for word in
                                                               ("red", "blue")]}), "one value of each"),
        (prompts(caption("a [v] blue toy duck", colour="blue")), "plain words"),
        (prompts(caption("a blue <s1> toy duck", colour="blue")), "plain words"),
        (prompts(caption("a blue toy duck" + " very" * 60, colour="blue")), "plain words"),
    ],
)  # fmt: skip
def test_wrong_prompts_are_asked_again_and_then_refused(wrong: bytes, complaint: str) -> None:
    with endpoint((200, wrong), (200, prompts(GLASS))) as (url, asked):
        assert ChatNamer(url, "m", retries=1).recombine(DUCK, "toy duck", 1, 0)[0].attributes == {"material": "glass"}
        assert len(asked) == 2
    with endpoint((200, wrong)) as (url, asked):
        with pytest.raises(NamerError, match=complaint) as caught:
            ChatNamer(url, "m", retries=1).recombine(DUCK, "toy duck", 1, 0)
        assert len(asked) == 2 and "\n" not in str(caught.value) and "2 attempts" in str(caught.value)


def test_two_prompts_alike_are_wrong() -> None:
    again = caption("A GLASS toy duck", material="glass")
    with endpoint((200, prompts(GLASS, again))) as (url, _), pytest.raises(NamerError, match="same prompt twice"):
        ChatNamer(url, "m", retries=0).recombine(DUCK, "toy duck", 2, 0)


def test_a_prompt_of_an_earlier_set_is_wrong_too() -> None:
    sets = [[caption(f"a duck of {kind}{n}", material=f"{kind}{n}") for n in range(20)] for kind in ("stuff", "matter")]
    again = [*sets[1][:3], caption("a Duck of stuff7", material="stuff7")]
    with endpoint((200, prompts(*sets[0])), (200, prompts(*again)), (200, prompts(*sets[1][:4]))) as (url, asked):
        found = ChatNamer(url, "m", retries=1).recombine(DUCK, "duck", 24, 0)
    assert len(asked) == 3 and len({prompt.text.lower() for prompt in found}) == 24
    assert "a duck of stuff19" in asked[1]["body"]["messages"][0]["content"][0]["text"]
    assert "'a Duck of stuff7'" in asked[2]["body"]["messages"][2]["content"]


def test_a_conflict_that_the_prompt_itself_says_is_left_out() -> None:
    with endpoint((200, conflicts("white stripes", "red"))) as (url, asked):
        found = ChatNamer(url, "m", retries=0).conflicts(DUCK, "duck", "a plain blue duck on a red table")
    assert found == ["white stripes"] and len(asked) == 1


def test_what_is_said_wrongly_is_shortened_in_errors_and_in_corrections() -> None:
    long = caption("a duck", shape="x" * 50_000)
    with endpoint((200, prompts(long))) as (url, asked), pytest.raises(NamerError, match="use words") as caught:
        ChatNamer(url, "m", retries=1).recombine(DUCK, "duck", 1, 0)
    assert len(str(caught.value)) < 600
    sent = [message["content"] for message in asked[1]["body"]["messages"][1:]]
    assert max(map(len, sent)) <= 4000


def test_a_wrong_answer_is_told_what_was_wrong() -> None:
    with endpoint((200, conflicts("green")), (200, conflicts("red"))) as (url, asked):
        assert ChatNamer(url, "m", retries=1).conflicts(DUCK, "duck", "a blue duck") == ["red"]
    first, second = (ask["body"] for ask in asked)
    assert second["messages"][0] == first["messages"][0] and len(first["messages"]) == 1
    assert json.loads(second["messages"][1]["content"]) == {"conflicts": ["green"]}
    assert second["messages"][2]["role"] == "user" and "'green'" in second["messages"][2]["content"]


def test_conflicts_are_values_of_the_dictionary() -> None:
    with endpoint((200, conflicts("RED", "white  stripes", "red"))) as (url, asked):
        found = ChatNamer(url, "m").conflicts(DUCK, "duck", "a plain\nblue duck")
    assert found == ["red", "white stripes"]
    text = asked[0]["body"]["messages"][0]["content"][0]["text"]
    assert "'a plain blue duck'" in text and "pattern: white stripes" in text
    with endpoint((200, conflicts())) as (url, asked):
        advisor = ChatNamer(url, "m")
        assert advisor.conflicts(DUCK, "duck", "a duck") == [] and len(asked) == 1
        assert advisor.conflicts({}, "duck", "a blue duck") == advisor.conflicts(DUCK, "duck", " ") == []
        assert len(asked) == 1, "about nothing nobody is asked"


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (conflicts("green"), "'green': use the dictionary's"),
        (conflicts("stripes"), "'stripes': use"),
        (conflicts("colour"), "'colour': use"),
        (conflicts(["red"]), "no list of conflicts"),
        (answer(json.dumps({"conflicts": "red"})), "no list of conflicts"),
        (answer(json.dumps({"contradicted": ["red"]})), "no list of conflicts"),
        (answer("red"), "not the JSON"),
        (b"{", "not the JSON"),
        (json.dumps({"choices": []}).encode(), "not the JSON"),
    ],
)
def test_wrong_conflicts_are_asked_again_and_then_refused(wrong: bytes, complaint: str) -> None:
    with endpoint((200, wrong), (200, conflicts("red"))) as (url, asked):
        assert ChatNamer(url, "m", retries=1).conflicts(DUCK, "duck", "a blue clay duck") == ["red"]
        assert len(asked) == 2
    with endpoint((200, wrong)) as (url, _), pytest.raises(NamerError, match=complaint) as caught:
        ChatNamer(url, "m", retries=0).conflicts(DUCK, "duck", "a blue clay duck")
    assert "\n" not in str(caught.value)


def test_silence_busyness_and_refusals_end_as_with_naming() -> None:
    with endpoint(1.0) as (url, _), pytest.raises(NamerError, match=r"within 0\.2 s"):
        ChatNamer(url, "m", timeout=0.2, retries=0).conflicts(DUCK, "duck", "a blue duck")
    with endpoint((429, b""), (200, conflicts("red"))) as (url, asked):
        assert ChatNamer(url, "m", retries=1).conflicts(DUCK, "duck", "a blue duck") == ["red"] and len(asked) == 2
    with endpoint((429, b"")) as (url, asked), pytest.raises(NamerError, match=r"429 \(2 attempts\)"):
        ChatNamer(url, "m", retries=1).recombine(DUCK, "duck", 1, 0)
    with endpoint((400, b"")) as (url, asked), pytest.raises(NamerError, match="400"):
        ChatNamer(url, "m").recombine(DUCK, "duck", 1, 0)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7.0, 7.0),
        ("0.5", 0.5, 0.5),
        ("99999", 30.0, 30.0),
        (formatdate(time.time() + 3600, usegmt=True), 30.0, 30.0),
        (formatdate(time.time() - 60, usegmt=True), 0.0, 0.0),
        ("-3", 0.0, 0.0),
        ("nan", 0.0, 0.0),
        ("soon", 0.0, 0.0),
        ("Fri, 01 Jan 999999999999999999999 00:00:00 GMT", 0.0, 0.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0, 0.0),
    ],
    ids=("number", "fraction", "too-long", "date", "past", "negative", "nan", "words", "year", "first-year"),
)
def test_a_busy_server_is_left_alone_as_long_as_it_asks(
    header: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("intarsia.perception.chat_client.time", SimpleNamespace(sleep=pauses.append, time=time.time))
    busy, done = (429, b"", {"Retry-After": header}), (200, conflicts("red"))
    with endpoint(busy, done) as (url, asked):
        assert ChatNamer(url, "m", retries=1).conflicts(DUCK, "duck", "a blue duck") == ["red"]
    assert len(asked) == 2 and len(pauses) == 1 and least <= pauses[0] <= most


def test_answers_are_kept_by_what_was_asked(tmp_path: Path) -> None:
    with endpoint((200, prompts(GLASS)), (200, conflicts("green")), (200, conflicts("red"))) as (url, asked):
        advisor = ChatNamer(url, "m", cache_dir=tmp_path, retries=1)
        advisor.recombine(DUCK, "toy duck", 1, 0)
        assert advisor.conflicts(DUCK, "toy duck", "a blue toy duck") == ["red"] and len(asked) == 3
    # The server is gone: the same questions are answered all the same, and others not.
    silent = ChatNamer(url, "m", cache_dir=tmp_path, retries=0)
    assert silent.recombine(DUCK, "toy duck", 1, 0)[0].text == "a glass Toy duck"
    assert silent.conflicts(DUCK, "toy duck", "a blue toy duck") == ["red"]
    for ask in (
        lambda: silent.recombine(DUCK, "toy duck", 1, 1),
        lambda: silent.recombine({**DUCK, "colour": ["blue"]}, "toy duck", 1, 0),
        lambda: silent.conflicts(DUCK, "toy duck", "a green toy duck"),
        lambda: ChatNamer(url, "other", cache_dir=tmp_path, retries=0).recombine(DUCK, "toy duck", 1, 0),
    ):
        with pytest.raises(NamerError, match="cannot be reached"):
            ask()


def test_names_are_kept_by_the_photos_pixels(tmp_path: Path) -> None:
    with endpoint((200, GOOD)) as (url, asked):
        namer = ChatNamer(url, "m", cache_dir=tmp_path)
        namer.name([IMAGE], [MASK], "duck")
        namer.name([IMAGE.copy()], [MASK.copy()], "duck")
        assert len(asked) == 1
        changed = IMAGE.copy()
        changed[20, 20] = 1 - changed[20, 20]
        namer.name([changed], [MASK], "duck")
        assert len(asked) == 2


# A local vision-language model


def byte_tokenizer() -> Any:
    """One token a byte, so that any JSON can be said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(["<pad>", "<eos>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return fast


def tiny_llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=32, patch_size=8),
        text_config=LlamaConfig(
            **small, num_key_value_heads=2, vocab_size=len(tokenizer), pad_token_id=0, max_position_embeddings=4096
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    template = (
        "user {% for part in messages[0]['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %} says "
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return LlavaForConditionalGeneration(config), processor


class Scripted:
    """A real tiny model and processor of which only `generate` is replaced: it says the given texts in turn, and what
    it was asked is read back from the tokens it got."""

    def __init__(self, *says: str) -> None:
        self.model, self.processor = tiny_llava()
        self.says, self.asked, self.loads = list(says), [], 0  # type: ignore[var-annotated]
        self.model.generate = self.generate
        self.advisor = VisionAdvisor(VisionAsker(self.load, retries=1), "vlm")

    def load(self) -> tuple[Any, Any, str]:
        self.loads += 1
        return self.model, self.processor, "vlm:tiny"

    def generate(self, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        assert options["do_sample"] is False
        images = options.get("pixel_values")
        text = self.processor.decode(input_ids[0], skip_special_tokens=True)
        self.asked.append((text, 0 if images is None else len(images)))
        said = self.processor.tokenizer(self.says.pop(0), return_tensors="pt")["input_ids"]
        return torch.cat([input_ids, said], dim=1)


def test_a_local_model_is_asked_the_same_three_questions() -> None:
    named = '<think>a {red} one</think>Sure:\n```json\n{"colour": ["Red"], "material": [], "mood": "glad",}\n```'
    model = Scripted(named, json.dumps({"prompts": [GLASS]}), "{'conflicts': ['red']} I hope this helps.")
    assert model.advisor.name([IMAGE, IMAGE], [MASK, MASK], "duck") == {"colour": ["red"]}
    assert model.advisor.recombine(DUCK, "toy duck", 1, 0)[0].text == "a glass Toy duck"
    assert model.advisor.conflicts(DUCK, "duck", "a blue duck") == ["red"]
    assert [count for _, count in model.asked] == [2, 0, 0] and model.loads == 1
    for (text, _), word in zip(model.asked, ("accessories", "prompts", "conflicts"), strict=True):
        assert "JSON schema" in text and f'"{word}"' in text and text.endswith("says ")
    model.advisor.release()
    model.says.append('{"conflicts": []}')
    assert model.advisor.conflicts(DUCK, "duck", "a blue duck") == [] and model.loads == 2


def test_a_local_models_wrong_answers_are_told_and_then_refused() -> None:
    model = Scripted('{"conflicts": ["green"]}', '{"conflicts": ["red"]}', "I cannot say.", "{red")
    assert model.advisor.conflicts(DUCK, "duck", "a blue duck") == ["red"]
    assert "An earlier answer was wrong" in model.asked[1][0] and "'green'" in model.asked[1][0]
    assert "An earlier answer" not in model.asked[0][0]
    with pytest.raises(
        NamerError, match=r"vlm:tiny gives no usable conflicts in 2 attempts \(the answer is not JSON\)"
    ):
        model.advisor.conflicts(DUCK, "duck", "a blue duck")
    assert "there is no JSON object" in model.asked[3][0]


def test_the_real_generation_of_random_weights_is_refused_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intarsia.perception.vision_advisor._MOST_TOKENS", 4)
    for part in tiny_llava():
        part.save_pretrained(tmp_path / "model")
    advisor = namer_from_option(f"vlm:{tmp_path / 'model'}", SimpleNamespace(device="cpu"))  # type: ignore[arg-type]
    assert isinstance(advisor, VisionAdvisor)
    with pytest.raises(NamerError, match="vlm:model gives no usable attributes in 3 attempts"):
        advisor.name([IMAGE], [MASK], "duck")
    with pytest.raises(NamerError, match="vlm:model gives no usable conflicts"):
        advisor.conflicts(DUCK, "duck", "a blue duck")


def test_local_models_that_cannot_be_asked(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    processor.chat_template = None
    with pytest.raises(NamerError, match="bare has no chat template"):
        VisionAdvisor(VisionAsker(lambda: (model, processor, "bare")), "bare").conflicts(DUCK, "duck", "a blue duck")
    with pytest.raises(NamerError, match="cannot be loaded") as caught:
        VisionAdvisor.of(str(tmp_path)).name([IMAGE], [MASK], "duck")
    assert "\n" not in str(caught.value)
    with pytest.raises(NamerError, match="-1 retries"):
        VisionAsker(lambda: (model, processor, ""), retries=-1)
    assert not hasattr(YamlNamer("a.yaml"), "release") and not hasattr(YamlNamer("a.yaml"), "recombine")


def test_masks_and_photos_are_checked_before_anybody_is_asked() -> None:
    model = Scripted()
    with pytest.raises(NamerError, match="2 photos with 1 masks"):
        model.advisor.name([IMAGE, IMAGE], [MASK], "duck")
    with pytest.raises(NamerError, match="empty"):
        model.advisor.name([IMAGE], [np.zeros_like(MASK)], "duck")
    assert model.loads == 0
