"""`intarsia demo`: a subject learned and inserted, another inserted from one photo, one added on an instruction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.common import (
    Device,
    Json,
    Model,
    Overwrite,
    command,
    learning_report,
    open_studio,
    progress_bar,
    reporting,
)

if TYPE_CHECKING:
    from intarsia.cli.demo_world import DemoWorld
    from intarsia.cli.sheet import Tiles
    from intarsia.editing import Studio

SEED = 0
WIDER = 0.75
"""The share of the wider canvas's sides that the picture fills."""
QUICK_STEPS = 8


@command
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps only: fast, and poor pictures.")] = False,
    model: Model = "miniature",
    add_model: Annotated[
        str | None, typer.Option("--add-model", help="The instruction model; the miniature's beside the miniature.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show everything once, on one sheet.

    Five photos of a toy are rendered, the toy is learned and painted into a scene three times: as it is, in
    another colour and material, and with something to wear. Another toy is painted from one photo, without any
    learning, and once more with words beside the photo; then the picture is made wider. Last, a toy is added on
    an instruction, without a mask, and the learned one put in the place that was found.

    \b
    Examples:
      intarsia demo
      intarsia demo --output somewhere --overwrite
      intarsia demo --quick
    """
    from intarsia.backbones import catalog, find_model
    from intarsia.cli.demo_world import ADDED, SHOWN, demo_world, file_names
    from intarsia.cli.sheet import Sheet, draw_sheet
    from intarsia.result import check_output

    with reporting(json) as reporter:
        for name in file_names():
            suffix = Path(name).suffix
            check_output(output / name, overwrite=overwrite, suffixes=(suffix,))
        _, folder = find_model(model)
        adder = add_model or next((e.name for e in catalog.values() if e.base == model and e.inpaint == "none"), None)
        if adder is not None:
            find_model(adder)
        studio = open_studio(model, device, "float32")
        from intarsia.editing import NothingAddedError, SceneLostError

        world = demo_world(folder)
        world.write(output, overwrite=overwrite)
        reporter.say(f"the subject: {world.description}; five photos of it are in {output / 'photos'}")
        with progress_bar("learn", json) as advance:
            report = learning_report(advance)
            subject = studio.learn(
                output / "photos",
                world.class_noun,
                output / "subject.safetensors",
                preset="smoke" if quick else "default",
                overwrite=overwrite,
                seed=SEED,
                progress=report,
            )
        results = []
        options: dict[str, Any] = {"steps": QUICK_STEPS} if quick else {}
        for name, prompt in world.prompts.items():
            with progress_bar(name, json) as advance:
                result = studio.insert(
                    output / "scene.png",
                    box=world.box,
                    prompt=prompt,
                    subject=output / "subject.safetensors",
                    seed=SEED,
                    progress=lambda done, total, name=name: advance(done, total, name),  # type: ignore[misc]
                    **options,
                )
            result.save(output / f"{name}.png", overwrite=overwrite)
            results.append((result.picture, result.recipe.prompt_used))
        rows: list[tuple[str, Tiles]] = []
        names = [*world.prompts]
        if (folder / "reference").is_dir():
            with progress_bar("one photo", json) as advance:
                tiles = from_one_photo(
                    studio, world, output, overwrite, lambda done, total: advance(done, total, "one photo"), options
                )
            rows.append(("From one photo, nothing learned", tiles))
            names += SHOWN
        else:
            reporter.say(f"model {model!r} has no weights for references: the row made from one photo is left out")
        if adder is None:
            reporter.say("no --add-model for this model: the row made on an instruction is left out")
        else:
            try:
                with progress_bar("add", json) as advance:
                    tiles = on_instruction(
                        studio, world, output, overwrite, lambda done, total: advance(done, total, "add"),
                        {**options, "add_model": adder},
                    )  # fmt: skip
                rows.append(("Added on an instruction, without a mask", tiles))
                names += ADDED
            except (NothingAddedError, SceneLostError) as error:
                reporter.warn(f"the row made on an instruction is left out: {error}")
        sheet = draw_sheet(
            Sheet(world.photos, world.scene, world.box, tuple(results), world.description, tuple(rows))
        )
        sheet.save(output / "sheet.png", overwrite=overwrite)
        subject_words = f"{subject.token} {subject.class_noun}"
        reporter.done(
            f"wrote {output / 'sheet.png'} and the single pictures beside it",
            {
                "sheet": str(output / "sheet.png"),
                "subject": str(output / "subject.safetensors"),
                "learned": subject_words,
                "pictures": [str(output / f"{name}.png") for name in names],
            },
        )


def from_one_photo(
    studio: Studio,
    world: DemoWorld,
    output: Path,
    overwrite: bool,
    progress: Callable[[int, int], None],
    options: dict[str, Any],
) -> Tiles:
    """The reference, inserted as it is and with words, and the first of both made wider; each is saved."""
    place: dict[str, Any] = {
        "box": world.box,
        "reference": output / "reference.png",
        "reference_mask": output / "reference_mask.png",
        "seed": SEED,
        "progress": progress,
        **options,
    }
    plain = studio.insert(output / "scene.png", **place)
    worded = studio.insert(output / "scene.png", prompt=world.reference_words, **place)
    wider = studio.outpaint(plain, ratio=WIDER, seed=SEED, progress=progress, **options)
    from intarsia.cli.demo_world import SHOWN

    results = (plain, worded, wider)
    for name, result in zip(SHOWN, results, strict=True):
        result.save(output / f"{name}.png", overwrite=overwrite)
    captions = ("the reference", "from the photo alone", f"with “{world.reference_words}”", "and on a wider canvas")
    pictures = (world.reference, *(result.picture for result in results))
    return tuple(zip(pictures, captions, strict=True))


def on_instruction(
    studio: Studio,
    world: DemoWorld,
    output: Path,
    overwrite: bool,
    progress: Callable[[int, int], None],
    options: dict[str, Any],
) -> Tiles:
    """The scene with what the instruction adds, what that changed, and the learned toy in its place; each is saved.

    Raises:
        NothingAddedError, SceneLostError: see `Studio.add`.
    """
    from intarsia.cli.demo_world import ADDED
    from intarsia.imaging import Picture

    added = studio.add(output / "scene.png", world.instruction, seed=SEED, progress=progress, **options)
    change = Picture.from_array(added.support.astype("uint8") * 255)
    change.save(output / f"{ADDED[1]}.png", overwrite=overwrite)
    options = {name: value for name, value in options.items() if name != "add_model"}
    swapped = studio.insert(
        output / "scene.png",
        mask=output / f"{ADDED[1]}.png",
        prompt=f"a photo of a {world.class_noun}",
        subject=output / "subject.safetensors",
        seed=SEED,
        progress=progress,
        **options,
    )
    for name, result in ((ADDED[0], added), (ADDED[2], swapped)):
        result.save(output / f"{name}.png", overwrite=overwrite)
    captions = ("the scene", f"“{world.instruction}”", "what changed", "the learned toy in that place")
    return tuple(zip((world.scene, added.picture, change, swapped.picture), captions, strict=True))
