from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapters.loras import modules_of, random_lora
from tests.editing.conftest import tiny_studio
from tests.editing.drawing_model import block, drawing_model

from intarsia.adapters import AdapterFileError, AdapterKeyError, Lora, save_lora, write_lora
from intarsia.editing import EditingError, InputChangedError, Studio, preflight
from intarsia.errors import MissingFileError
from intarsia.imaging import Picture
from intarsia.learning import Subject
from intarsia.request import EditRequest, RequestError
from intarsia.result import Recipe, read_recipe

PLACE: dict[str, Any] = {"box": (30, 20, 24, 24), "steps": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """unet.safetensors (kohya), words.safetensors (ComfyUI; of a text tower alone)."""
    folder = tmp_path_factory.mktemp("loras")
    modules = modules_of(tiny_studio().backbone)
    whole = random_lora(modules, every=3, rank=2, alpha=1.0)
    save_lora(folder / "unet.safetensors", *write_lora(Lora({"unet": whole.layers["unet"]}), "kohya", modules))
    words = Lora({"text_encoder": whole.layers["text_encoder"]})
    save_lora(folder / "words.safetensors", *write_lora(words, "comfyui", modules))
    return folder


def bits(studio: Studio) -> dict[str, tuple[int, torch.Tensor]]:
    return {f"{part}.{name}": (id(value), value.clone()) for part, module in studio.backbone.modules().items()
            for name, value in module.named_parameters()}  # fmt: skip


def same(before: dict[str, tuple[int, torch.Tensor]], studio: Studio) -> bool:
    after = bits(studio)
    return before.keys() == after.keys() and all(
        before[n][0] == after[n][0] and torch.equal(before[n][1], after[n][1]) for n in before
    )


@pytest.mark.parametrize("name", ["unet", "words"])
@pytest.mark.parametrize("verb", ["insert", "remove", "outpaint"])
def test_a_lora_changes_every_verb_and_leaves_the_model(
    studio: Studio, scene: Picture, files: Path, name: str, verb: str
) -> None:
    options: dict[str, Any] = {"left": 32, "steps": 2} if verb == "outpaint" else PLACE
    run: Any = getattr(studio, verb)
    before = bits(studio)
    file = files / f"{name}.safetensors"
    plain = run(scene, prompt="a duck", **options)
    with_it = run(scene, prompt="a duck", lora=file, **options)
    off = run(scene, prompt="a duck", lora=file, lora_strength=0, **options)
    half = run(scene, prompt="a duck", lora=[file], lora_strength=[0.5], **options)
    assert same(before, studio)
    assert off.picture.sha256 == plain.picture.sha256
    assert len({plain.picture.sha256, with_it.picture.sha256, half.picture.sha256}) == 3
    assert with_it.recipe.weights == plain.recipe.weights == studio.backbone.hash
    assert with_it.recipe.request.lora == (str(file),) and len(with_it.recipe.request.lora_sha256[0]) == 64


def test_several_are_summed_whatever_their_order(studio: Studio, scene: Picture, files: Path) -> None:
    both = ["unet.safetensors", "words.safetensors"]
    pictures = {}
    for order in (both, both[::-1]):
        made = studio.insert(scene, prompt="a duck", lora=[files / name for name in order], **PLACE)
        pictures[order[0]] = made.picture.rgb()
    assert abs(pictures[both[0]] - pictures[both[1]]).max() <= 1 / 255
    twice = studio.insert(scene, prompt="a duck", lora=[files / both[0]] * 2, lora_strength=[0.25, 0.75], **PLACE)
    once = studio.insert(scene, prompt="a duck", lora=files / both[0], **PLACE)
    assert abs(twice.picture.rgb() - once.picture.rgb()).max() <= 1 / 255


def test_a_fused_subject_is_an_injected_one(studio: Studio, scene: Picture, subject: Subject) -> None:
    options = {**PLACE, "guidance_scale": 4}  # a preset guides a subject's words otherwise than words alone
    fused = studio.insert(scene, subject=subject, subject_strength=0.8, prompt="a duck", **options)
    adapter = subject.adapter()
    adapter.scale = 0.8
    plain = studio.insert(scene, prompt="a sks duck", **options)
    with adapter.inject(studio.backbone.unet):
        injected = studio.insert(scene, prompt="a sks duck", **options)
    assert abs(fused.picture.rgb() - injected.picture.rgb()).max() <= 1 / 255 + 1e-4
    assert abs(fused.picture.rgb() - plain.picture.rgb()).max() > 5 / 255


def test_replay_finds_the_file_and_refuses_another(
    studio: Studio, scene: Picture, files: Path, subject: Subject, tmp_path: Path
) -> None:
    (tmp_path / "l.safetensors").write_bytes((files / "unet.safetensors").read_bytes())
    subject.save(tmp_path / "duck.safetensors")
    scene.save(tmp_path / "s.png")
    made = studio.insert(
        tmp_path / "s.png", subject=tmp_path / "duck.safetensors", lora=tmp_path / "l.safetensors", lora_strength=-0.6,
        prompt="a duck", **PLACE,
    )  # fmt: skip
    made.save(tmp_path / "out.png")
    assert studio.replay(tmp_path / "out.png").picture.sha256 == made.picture.sha256
    (tmp_path / "l.safetensors").write_bytes((files / "words.safetensors").read_bytes())
    with pytest.raises(InputChangedError, match=r"l\.safetensors is not the LoRA"):
        studio.replay(tmp_path / "out.png")
    with pytest.raises(InputChangedError, match=r"l\.safetensors"):
        preflight(read_recipe(tmp_path / "out.png").request, tmp_path)


def test_recipes_from_before_loras_still_load() -> None:
    text = (Path(__file__).parent / "recipe_first_version.json").read_text()
    request = Recipe.from_json(text).request
    assert request.lora == request.lora_strength == request.lora_sha256 == ()
    again = EditRequest.from_json(request.replace(lora=("a.safetensors",), lora_strength=(0.5,)).to_json())
    assert again.lora_strengths == (0.5,) and request.replace(lora=("a", "b")).lora_strengths == (1.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"lora": ("a",), "lora_strength": (1.0, 2.0)}, "lora_strength has 2 entries for 1 LoRAs"),
        ({"lora_strength": (1.0,)}, "1 entries for 0 LoRAs"),
        ({"lora_sha256": ("ab",)}, "lora_sha256"),
        ({"lora": ("a",), "lora_strength": (4.5,)}, "lora_strength"),
        ({"lora": ("a",), "lora_strength": (float("nan"),)}, "lora_strength"),
        ({"lora": ("a",), "lora_strength": "strong"}, "lora_strength"),
        ({"lora": 7}, "lora 7"),
    ],
)
def test_requests_that_make_no_sense(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(RequestError, match=fault):
        EditRequest(verb="insert", scene="s.png", box="1,1,8,8", prompt="x", **fields)


def test_a_direct_addition_has_no_use_for_one() -> None:
    common: dict[str, Any] = {"verb": "add", "scene": "s.png", "instruction": ("add a mug",), "lora": ("a",)}
    assert EditRequest(**common).lora == ("a",)
    with pytest.raises(RequestError, match="not repainted"):
        EditRequest(**common, finish="direct")


def test_an_additions_repainting_sees_it(studio: Studio, files: Path) -> None:
    scene = Picture.from_array(np.full((72, 96, 3), 160, np.uint8))
    model = drawing_model(**{"add a red mug": block(0.3, 0.3, 0.4, 0.4, (0.9, 0.1, 0.1))})
    adding = Studio(studio.backbone, model)
    before = bits(studio)
    options: dict[str, Any] = {"steps": 2, "scheduler": "ddim", "candidates": 1, "repaint_guidance_scale": 2.0,
                               "guidance_scale": 1.0, "image_guidance_scale": 1.0}  # fmt: skip
    plain = adding.add(scene, "add a red mug", **options)
    made = adding.add(scene, "add a red mug", lora=files / "unet.safetensors", **options)
    assert made.picture.sha256 != plain.picture.sha256 and same(before, studio)


def test_files_that_cannot_be_used_are_one_line(studio: Studio, scene: Picture, files: Path, tmp_path: Path) -> None:
    before = bits(studio)
    (tmp_path / "broken.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{nonsense")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    save_lora(tmp_path / "strange.safetensors", {"lora_unet_nowhere.lora_down.weight": torch.ones(1, 1)}, {})
    cases: list[tuple[str, type[Exception], str]] = [
        ("none.safetensors", MissingFileError, "does not exist"),
        ("broken.safetensors", EditingError, "damaged"),
        ("old.ckpt", AdapterFileError, "pickle"),
        ("strange.safetensors", AdapterKeyError, "lora_unet_nowhere"),
    ]
    for name, kind, fault in cases:
        with pytest.raises(kind, match=fault) as caught:
            studio.insert(scene, prompt="a duck", lora=tmp_path / name, **PLACE)
        assert "\n" not in str(caught.value)
    assert same(before, studio)


def test_words_are_encoded_with_the_lora_in(studio: Studio, scene: Picture, files: Path) -> None:
    """A LoRA of a text tower alone can only act through the prompt."""
    header = (files / "words.safetensors").read_bytes()
    keys = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert all(key.startswith(("text_encoders.clip_l", "__metadata__")) for key in keys)
    one = studio.insert(scene, prompt="a duck", lora=files / "words.safetensors", **PLACE)
    assert one.picture.sha256 != studio.insert(scene, prompt="a duck", **PLACE).picture.sha256


def test_the_strength_that_peft_tells_in_another_file_is_part_of_the_request(
    studio: Studio, scene: Picture, tmp_path: Path
) -> None:
    layers = random_lora(modules_of(studio.backbone), rank=2).layers["unet"]
    state = {f"base_model.model.{m}.lora_A.weight": layer.down for m, layer in layers.items()}
    state |= {f"base_model.model.{m}.lora_B.weight": layer.up for m, layer in layers.items()}
    file, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    save_lora(file, state, {})
    found = []
    for alpha in (1.0, 6.0):
        config.write_text(json.dumps({"r": 2, "lora_alpha": alpha}))
        found.append(studio.insert(scene, prompt="a duck", lora=file, **PLACE))
    assert found[0].picture.sha256 != found[1].picture.sha256
    request = found[0].recipe.request
    with pytest.raises(InputChangedError, match="not the LoRA of this request"):
        preflight(EditRequest(verb="insert", scene="s.png", prompt="a duck", box="1,1,9,9", lora=(str(file),),
                              lora_sha256=request.lora_sha256), _with_scene(scene, tmp_path))  # fmt: skip


def _with_scene(scene: Picture, folder: Path) -> Path:
    scene.save(folder / "s.png")
    return folder
