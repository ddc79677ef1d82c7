"""What the demo shows: a toy the model has never seen, photos of it, and a scene with a free place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Picture
from intarsia.perception import place_of
from intarsia.result import output_folder
from intarsia.tabletop import Level, Subject, level, photo_scenes, sample_scene, split_seed

SUBJECT_INDEX = 11
"""Which subject of the test split is learned."""
REFERENCE_INDEX = 12
"""Which one is only shown, in one photo."""
SCENE_SEED = 2
OTHER_OBJECTS = 1
"""Toys that stand in the scene already."""
PHOTO_SEED = 1
PHOTOS = 5
PHOTO_SIDE = 192
SCENE_SIDE = 192
BOX_MARGIN = 0.12
"""How much larger than the toy the box is drawn, on each side."""
ADDED = ("added", "added-change", "added-subject")
"""What an instruction adds, which pixels that changed, and the learned toy painted there instead."""
DEFAULT_LEVEL = "small"
PICTURES = ("as-it-is", "other-colour-and-material", "with-accessory")
SHOWN = ("from-one-photo", "from-one-photo-and-words", "wider")
"""What is made from the reference photo, and the first of them on a wider canvas."""


@dataclass(frozen=True, eq=False)
class DemoWorld:
    """Everything that is rendered; `box` is (x, y, width, height) in the scene; `prompts`: file stem ->
    words. `reference` is one photo of another toy, `reference_words` an edit of it; `instruction` asks for a thing.
    """

    class_noun: str
    description: str
    photos: tuple[Picture, ...]
    masks: tuple[Picture, ...]
    scene: Picture
    box: tuple[int, int, int, int]
    prompts: dict[str, str]
    reference: Picture
    reference_mask: Picture
    reference_words: str
    instruction: str

    def write(self, folder: Path, *, overwrite: bool) -> None:
        """photos/NN.png, photos/masks/NN.png, scene.png and the reference with its mask."""
        for number, (photo, mask) in enumerate(zip(self.photos, self.masks, strict=True)):
            for place, picture in ((folder / "photos", photo), (folder / "photos" / "masks", mask)):
                path = place / f"{number:02d}.png"
                with output_folder(path):
                    picture.save(path, overwrite=overwrite)
        self.scene.save(folder / "scene.png", overwrite=overwrite)
        self.reference.save(folder / "reference.png", overwrite=overwrite)
        self.reference_mask.save(folder / "reference_mask.png", overwrite=overwrite)


def file_names() -> list[str]:
    """All files that the demo writes, relative to its folder."""
    photos = [f"photos/{number:02d}.png" for number in range(PHOTOS)]
    masks = [f"photos/masks/{number:02d}.png" for number in range(PHOTOS)]
    pictures = [f"{name}.png" for name in (*PICTURES, *SHOWN, *ADDED)]
    scenes = ["scene.png", "reference.png", "reference_mask.png"]
    return [*photos, *masks, *scenes, *pictures, "sheet.png", "subject.safetensors"]


def demo_world(model_folder: Path) -> DemoWorld:
    """Render the demo's pictures at the level of the world that the model was trained on."""
    from intarsia.tabletop import render

    world = level(world_level(model_folder))
    subject = Subject.sample(split_seed("test", SUBJECT_INDEX), world)
    rendered = render(photo_scenes(subject, world, PHOTOS, PHOTO_SEED), (PHOTO_SIDE, PHOTO_SIDE))
    photos = tuple(_picture(image.permute(1, 2, 0).numpy()) for image in rendered.images)
    masks = tuple(Picture.from_array(mask.numpy().astype(np.uint8) * 255) for mask in rendered.visible(0))
    other = Subject.sample(split_seed("test", REFERENCE_INDEX), world)
    shown = render(photo_scenes(other, world, 1, PHOTO_SEED), (PHOTO_SIDE, PHOTO_SIDE))
    scene = sample_scene(SCENE_SEED, world, (subject,), 1 + OTHER_OBJECTS, "test")
    size = (SCENE_SIDE, SCENE_SIDE)
    place = render([scene], size).visible(0)[0].numpy()
    empty = render([scene.without(0)], size).images[0].permute(1, 2, 0).numpy()
    return DemoWorld(
        class_noun=subject.name,
        description=describe(subject),
        photos=photos,
        masks=masks,
        scene=_picture(empty),
        box=_box(place),
        prompts=prompts_for(subject, world),
        reference=_picture(shown.images[0].permute(1, 2, 0).numpy()),
        reference_mask=Picture.from_array(shown.visible(0)[0].numpy().astype(np.uint8) * 255),
        reference_words=prompts_for(other, world)[PICTURES[1]],
        instruction=f"add a {world.colours[0]} {subject.name} at {place_of(place)}",
    )


def world_level(model_folder: Path) -> str:
    """The level named by the model's card, `small` without one."""
    try:
        return str(json.loads((model_folder / "model_card.json").read_text(encoding="utf-8"))["level"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_LEVEL


def prompts_for(subject: Subject, world: Level) -> dict[str, str]:
    """Three edits: none; another colour and material; an accessory that it does not wear."""
    noun = subject.name
    colour = next(value for value in world.colours if value not in (subject.colour, subject.second_colour))
    material = next(value for value in world.materials if value != subject.material)
    worn = next(value for value in world.accessories if value not in ("none", subject.accessory))
    shade = next(value for value in world.colours if value not in (subject.colour, subject.second_colour, colour))
    texts = (
        f"a photo of a {noun}",
        f"a photo of a {colour} {material} {noun}",
        f"a photo of a {noun} wearing a {shade} {worn}",
    )
    return dict(zip(PICTURES, texts, strict=True))


def describe(subject: Subject) -> str:
    """The subject in a few words."""
    words = f"a {subject.colour} {subject.material} {subject.name}"
    if subject.pattern != "plain":
        words += f", {subject.pattern} in {subject.second_colour}"
    if subject.accessory != "none":
        words += f", wearing a {subject.accessory_colour} {subject.accessory}"
    return words


def _picture(rgb: NDArray[np.float32]) -> Picture:
    return Picture.from_array(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _box(place: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(place.any(axis=1)), np.flatnonzero(place.any(axis=0))
    spare = round(BOX_MARGIN * max(rows[-1] - rows[0], columns[-1] - columns[0]))
    top, left = max(0, int(rows[0]) - spare), max(0, int(columns[0]) - spare)
    bottom, right = min(SCENE_SIDE, int(rows[-1]) + 1 + spare), min(SCENE_SIDE, int(columns[-1]) + 1 + spare)
    return left, top, right - left, bottom - top
