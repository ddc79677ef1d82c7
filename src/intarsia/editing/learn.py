"""Learning a subject with the editing room's own painter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones import no_memory_explained
from intarsia.editing.errors import EditingError
from intarsia.editing.painter import PAINTER_STEPS, prompt_painter
from intarsia.result import check_output, output_folder

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.learning import AttributeNamer, LearnConfig, LearnProgress, Photos, Subject

_LESS_MEMORY = "use memory model (--memory), or in Python batch=1 or gradient_checkpointing=True"


def learn_from_photos(
    backbone: Backbone,
    photos: str | Path | Sequence[str | Path] | Photos,
    class_noun: str,
    output: str | Path | None,
    *,
    masks: str | Path | None,
    preset: str,
    config: LearnConfig | None,
    namer: AttributeNamer | str,
    work_folder: str | Path | None,
    overwrite: bool,
    progress: Callable[[LearnProgress], None] | None,
    options: Mapping[str, Any],
) -> Subject:
    """See `Studio.learn`."""
    from intarsia.learning import LearnConfig, Photos, learn_subject
    from intarsia.perception import namer_from_option

    if output is not None:
        check_output(output, overwrite=overwrite, suffixes=(".safetensors",))
    if config is not None and options:
        raise EditingError(f"give either a config or {', '.join(sorted(options))}: both say how to learn")
    settings = LearnConfig.preset(preset, **options) if config is None else config
    given = photos if isinstance(photos, Photos) else Photos.load(photos, masks)
    chosen: AttributeNamer | None = None
    if namer != "vocabulary":
        chosen = namer_from_option(namer, backbone) if isinstance(namer, str) else namer
    folder = None if work_folder is None else Path(work_folder)
    with no_memory_explained("learning", backbone, _LESS_MEMORY):
        subject = learn_subject(
            backbone,
            given,
            class_noun,
            prompt_painter(backbone, PAINTER_STEPS),
            settings,
            namer=chosen,
            work_folder=folder,
            progress=progress,
        )
    if output is not None:
        with output_folder(Path(output)):
            subject.save(output, overwrite=overwrite)
    return subject
