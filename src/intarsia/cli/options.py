"""The options that editing commands share, what each is called in a request, and how a request is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from intarsia.cli.common import open_studio, progress_bar, reporting

SceneFile = Annotated[Path, typer.Argument(help="The picture to edit.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The picture to write; a PNG carries its recipe.")]
MaskFile = Annotated[Path | None, typer.Option("--mask", help="A picture of the same size; white is repainted.")]
MaskFrom = Annotated[str, typer.Option("--mask-from", help="What of the mask is repainted: white, black or alpha.")]
MaskShape = Annotated[
    str | None,
    typer.Option("--mask-shape", help="Repaint the mask as drawn, or its whole bounding box (box)."),
]
BoxText = Annotated[str | None, typer.Option("--box", help="x,y,w,h in pixels, instead of a mask.")]
Seed = Annotated[int, typer.Option(help="Another seed gives another picture; the same, the same.")]
Preset = Annotated[str, typer.Option(help="default, or paper (DreamMix and LAR-Gen as published).")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="How strictly the prompt is followed; 1 is off.")]
Rescale = Annotated[
    float | None, typer.Option("--rescale", help="Pulls the contrast of strong guidance back: 0 off, 1 full.")
]
Scheduler = Annotated[str | None, typer.Option(help="ddim, euler, dpmpp_2m_sde_karras …")]
Lambda = Annotated[
    float | None,
    typer.Option("--lambda", help="Share of the steps in the local window: 0 global only, 1 local only."),
]
WindowShare = Annotated[
    float | None,
    typer.Option("--window-share", help="Share of the local window that the mask fills; 0: the paper's rule."),
]
ContextShare = Annotated[
    float | None,
    typer.Option("--context-share", help="Share of the global window that the mask fills; 0: the whole picture."),
]
Growth = Annotated[int | None, typer.Option(help="Pixels by which the mask is widened.")]
Feather = Annotated[int | None, typer.Option(help="Pixels outside the mask over which old and new are blended.")]
Seam = Annotated[float | None, typer.Option("--seam", help="Colour match at the seam: 0 off, 1 full.")]
Start = Annotated[str | None, typer.Option(help="Start from the filled hole (fill) or from noise.")]
KeepDetail = Annotated[
    bool | None,
    typer.Option("--keep-detail/--no-keep-detail", help="Keep the local window's detail in the end."),
]
Negative = Annotated[str, typer.Option("--negative", help="What should not appear.")]

LoraFile = Annotated[
    list[str] | None,
    typer.Option("--lora", help="A LoRA for the model, FILE or FILE:STRENGTH (-4 to 4); may be repeated."),
]
ReferenceFile = Annotated[
    list[Path] | None,
    typer.Option("--reference", "-r", help="A photo of the thing to insert; may be repeated where the model can."),
]
ReferenceMask = Annotated[
    list[str] | None,
    typer.Option("--reference-mask", help="White where the photo shows it, or x,y,w,h; one per photo, in order."),
]
ReferenceStrength = Annotated[
    float | None,
    typer.Option(help="How strongly the photo is followed: 0 not, 1 as trained, up to 2; less beside words."),
]
Detail = Annotated[float | None, typer.Option("--detail", help="Fine detail of the photo (Refine): 0 off, 1 full.")]
DetailMode = Annotated[
    str | None, typer.Option("--detail-mode", help="The photo noised at each step (noised), or clean (faster).")
]
DetailGuided = Annotated[
    bool | None, typer.Option("--detail-guided/--no-detail-guided", help="Whether guidance amplifies the detail.")
]
ReferenceBlocks = Annotated[
    str | None, typer.Option(help="Factors of the photo's strength in the U-Net's down,mid,up blocks, like 1,1,0.5.")
]
ReferenceInterval = Annotated[
    str | None, typer.Option(help="Part of the steps in which the photo is seen, from,to, like 0,0.6.")
]
ReferenceSchedule = Annotated[
    str | None,
    typer.Option(help="Factors of the photo's strength and detail over the steps, like 1,0.2: falling from 1 to 0.2."),
]
GuidanceMode = Annotated[
    str | None, typer.Option("--guidance-mode", help="Guide words and photo together (joint) or apart.")
]
ReferenceGuidance = Annotated[
    float | None, typer.Option("--reference-guidance", help="The photo's own guidance, with --guidance-mode apart.")
]
ReferenceModel = Annotated[
    Path | None,
    typer.Option("--reference-model", help="Weights for photos: a folder, or an IP-Adapter-Plus file."),
]

NOTHING = object()
"""Marks a field whose value is None, as against one that was not given."""

_NAMES = {
    "guidance": "guidance_scale",
    "rescale": "guidance_rescale",
    "negative": "negative_prompt",
    "window_share": "local_share",
    "seam": "seam_strength",
    "detail": "detail_strength",
    "reference_guidance": "reference_guidance_scale",
    "substitute": "remove_attributes",
    "image_guidance": "image_guidance_scale",
    "place_hold": "place_hold",
    "candidates": "candidates",
    "repaint_guidance": "repaint_guidance_scale",
    "repaint_strength": "repaint_strength",
}
"""Options whose fields in a request have other names."""
_LISTS = ("reference_blocks", "reference_interval", "reference_schedule")
_FOR_THE_COMMAND = ("output", "mask_output", "model", "device", "dtype", "memory", "overwrite", "json")


def run_command(verb: str, options: dict[str, Any]) -> None:
    """Make the request of a command's options (all of them, by their names), check it, do it, report.

    Options that are None are left to the preset. With `mask_output` the result's support is written there, white on
    black.
    """
    from intarsia.editing import preflight
    from intarsia.request import EditRequest
    from intarsia.result import check_output, save_mask

    output, model, overwrite = options["output"], options["model"], options["overwrite"]
    with reporting(options["json"]) as reporter:
        check_output(output, overwrite=overwrite)
        mask_output = _check_mask_output(options.get("mask_output"), output, overwrite)
        request = preflight(EditRequest(verb=verb, model=model, **_fields(options)))
        studio = open_studio(model, options["device"], options["dtype"], options["memory"])
        with progress_bar(verb, options["json"]) as advance:
            result = studio.run(request, lambda done, total: advance(done, total, ""))
        result.save(output, overwrite=overwrite)
        if mask_output is not None:
            save_mask(result.support, mask_output, overwrite=overwrite)
        recipe = result.recipe
        also = "" if mask_output is None else f" and {mask_output}"
        reporter.done(
            f"wrote {output}{also} ({recipe.prompt_used!r}, seed {request.seed}, {result.seconds:.1f} s)",
            {
                "output": str(output),
                **({} if mask_output is None else {"mask_output": str(mask_output)}),
                "seconds": round(result.seconds, 3),
                "changed_pixels": int(result.support.sum()),
                "recipe": recipe.model_dump(mode="json"),
            },
        )


def _check_mask_output(path: Path | None, output: Path, overwrite: bool) -> Path | None:
    """`path`, if a mask can be written there: without loss, and not over the picture."""
    from intarsia.errors import OutputError
    from intarsia.result import MASK_SUFFIXES, check_output

    if path is None:
        return None
    if path.resolve() == output.resolve():
        raise OutputError(f"{path} is the output picture as well; give the mask another name")
    return check_output(path, overwrite=overwrite, suffixes=MASK_SUFFIXES)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in _FOR_THE_COMMAND:
            continue
        if name == "lora":
            fields |= _loras(value)
            continue
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, list):
            value = tuple(str(one) for one in value)
        elif name in _LISTS:
            value = _numbers(name, value)
        fields[_NAMES.get(name, name)] = None if value is NOTHING else value
    return fields


def _loras(given: list[str]) -> dict[str, Any]:
    """Files and strengths. A file whose name ends like a strength is a file."""
    from intarsia.errors import KnobError

    files, strengths = [], []
    for text in given:
        file, colon, end = text.rpartition(":")
        if not colon or Path(text).exists() or "/" in end or "\\" in end:
            file, end = text, "1"
        try:
            strengths.append(float(end))
        except ValueError as error:
            raise KnobError(f"the strength {end!r} of the LoRA {file} is no number; use one like 0.8") from error
        files.append(file)
    return {"lora": tuple(files), "lora_strength": tuple(strengths)}


def _numbers(name: str, text: str) -> tuple[float, ...]:
    from intarsia.errors import KnobError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise KnobError(f"{name} {text!r} is no list of numbers; separate them by commas, like 1,0.5") from error


def nothing_for_zero(value: float | None) -> object:
    """0 on the command line means that there is no such share."""
    return NOTHING if value == 0 else value
