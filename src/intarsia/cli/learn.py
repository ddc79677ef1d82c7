"""`intarsia learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from intarsia.cli.common import (
    Device,
    Json,
    Memory,
    Model,
    NumberFormat,
    Overwrite,
    command,
    learning_report,
    open_studio,
    progress_bar,
    reporting,
)


@command
def learn(
    photos: Annotated[list[Path], typer.Argument(help="A folder of photos of one subject, or some photos.")],
    class_noun: Annotated[
        str, typer.Option("--class", "--class-noun", "-c", help="What it is, in one or two words: duck.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The subject file to write (.safetensors).")],
    masks: Annotated[
        Path | None, typer.Option(help="A folder of masks named like the photos; white is the subject.")
    ] = None,
    cutout: Annotated[
        str,
        typer.Option(
            help="Who cuts out photos without masks: guess, grabcut (needs OpenCV, the extra cutout), or "
            "sam2:MODEL+grounding-dino:MODEL."
        ),
    ] = "guess",
    boxes: Annotated[
        Path | None,
        typer.Option(help="For these photos: a YAML or JSON file of photo names and rough boxes, photo.jpg: x,y,w,h."),
    ] = None,
    preset: Annotated[str, typer.Option(help="default, paper, or smoke (seconds; only to try out).")] = "default",
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    namer: Annotated[
        str,
        typer.Option(
            help="Who names the attributes: vocabulary (offline, the model's own towers), clip:MODEL, yaml:PATH, "
            "openai:URL#MODEL, or vlm:MODEL."
        ),
    ] = "vocabulary",
    regular_prompts: Annotated[
        str,
        typer.Option(help="Who recombines attributes: balanced (offline), or advisor (a namer openai: or vlm:)."),
    ] = "balanced",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    work: Annotated[
        Path | None,
        typer.Option(help="A folder for what is made on the way; the same command there goes on."),
    ] = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "auto",
    memory: Memory = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Learn a subject from a few photos of it.

    Five photos from different sides are good, one works.

    Masks are taken from a folder `masks/` beside the photos, from NAME-mask.png, or from the photos'
    transparency; else the subject is cut out as --cutout says, best where boxes (--boxes, or a file boxes.yaml
    beside the photos) tell roughly where it is. Ctrl-C stops early and saves what was learned so far.

    \b
    Examples:
      intarsia learn photos/ --class duck -o duck.safetensors
      intarsia learn a.jpg b.jpg c.jpg --class "toy robot" -o robot.safetensors --steps 200
      intarsia learn photos/ --class clock -o clock.safetensors --cutout grabcut --boxes boxes.yaml
    """
    from intarsia.backbones import parameter_count
    from intarsia.editing import learning_dtype, preflight_learning
    from intarsia.learning import LearnConfig, Photos
    from intarsia.perception import cutter_from_option
    from intarsia.result import check_output

    with reporting(json) as reporter:
        check_output(output, overwrite=overwrite, suffixes=(".safetensors",))
        options: dict[str, Any] = {"seed": seed, "regular_prompts": regular_prompts}
        if steps is not None:
            options["steps"] = steps
        config = LearnConfig.preset(preset, **options)
        preflight_learning(model, class_noun, config, namer, dtype)
        given = Photos.load(
            photos[0] if len(photos) == 1 else photos,
            masks,
            cutter=cutter_from_option(cutout, device),
            class_noun=class_noun,
            boxes=boxes,
        )
        studio = open_studio(model, device, learning_dtype(dtype, device, lambda: parameter_count(model)), memory)
        with progress_bar("learn", json) as advance:
            report = learning_report(advance)
            subject = studio.learn(
                given,
                class_noun,
                output,
                preset=preset,
                namer=namer,
                work_folder=work,
                overwrite=overwrite,
                progress=report,
                **options,
            )
        if subject.steps_done < config.steps:
            reporter.warn(f"stopped after {subject.steps_done} of {config.steps} steps; saved what was learned so far")
        reporter.done(
            f"wrote {output} ({subject.token} {subject.class_noun}, {subject.steps_done} steps); "
            f"try: intarsia insert SCENE --box x,y,w,h --subject {output} -o out.png",
            {
                "output": str(output),
                "class": subject.class_noun,
                "token": subject.token,
                "steps": subject.steps_done,
                "dictionary": {kind: list(values) for kind, values in subject.dictionary.kinds.items()},
            },
        )
