"""What can be checked of a learning before its model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.editing.devices import check_learning_dtype

if TYPE_CHECKING:
    from intarsia.learning import LearnConfig


def preflight_learning(
    model: str | Path, class_noun: str, config: LearnConfig, namer: str, dtype: str = "auto"
) -> None:
    """That the model is on this machine and can be trained in a number format, and that the namer can name with it, and
    recombine if the config says so.

    Raises:
        LearningError: no class noun, or a namer that recombines nothing where an advisor is wanted.
        NamerError, HelperError, VocabularyError: the namer is unknown, or its files are not there; the default one,
        where the model has no image encoder. UnknownModelError, MissingWeightsError, LicenceError: see `locate_model`.
        EditingError: float16, or an unknown format.
    """
    from intarsia.backbones import locate_model
    from intarsia.learning import checked_class_noun, require_advisor
    from intarsia.perception import NamerError, check_namer_option

    checked_class_noun(class_noun)
    check_learning_dtype(dtype)
    check_namer_option(namer)
    require_advisor(config, namer.startswith(("openai:", "vlm:")))
    files = locate_model(model)
    is_model = files.path.is_file() or (files.path / "model_index.json").is_file()
    if namer == "vocabulary" and is_model and not files.has_image_encoder:
        raise NamerError(
            f"model {files.name!r} has no image encoder to name attributes with: use --namer clip:clip (once "
            "`intarsia models fetch clip`), yaml:PATH, openai:URL#MODEL or vlm:MODEL"
        )
