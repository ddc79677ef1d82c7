"""`EditResult`: the finished picture, where it may differ from the source, and the recipe that repeats it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from intarsia.errors import IntarsiaError, OutputError, OutputFormatError
from intarsia.imaging import Picture, check_writable, read_png_text
from intarsia.request import EditRequest, RequestError

RECIPE_KEY = "intarsia"
"""The PNG text chunk that holds the recipe as JSON."""


PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
"""Of formats that keep every pixel."""


class RecipeError(IntarsiaError):
    """A picture without a recipe, or with one that cannot be read."""


class StageRecord(BaseModel):
    """What one sampling stage painted where: window (top, left, height, width) in scene pixels, painted at
    `size` (height, width) in steps [start, end). "add" is what an instruction model saw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["local", "global", "add"]
    start: int
    end: int
    window: tuple[int, int, int, int]
    size: tuple[int, int]


class Recipe(BaseModel):
    """All that repeats a picture, and what it was made with. Times are left out, so that files repeat as
    well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    recipe_version: Literal[1] = 1
    request: EditRequest
    weights: str
    """The model's hash."""
    prompt_used: str
    """With the identity token put in; for removal, the model's words for emptiness where none were given; for adding,
    what was painted in the places found, one after the other.
    """
    removed_attributes: tuple[str, ...]
    stages: tuple[StageRecord, ...]
    environment: dict[str, str]
    """Versions of intarsia, torch, diffusers, transformers, numpy, python; platform, device, number format,
    threads.
    """

    def to_json(self) -> str:
        """Compact JSON, the same for equal recipes."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """`RecipeError` for text that is no recipe."""
        try:
            data = json.loads(text)
            version = data.get("recipe_version") if isinstance(data, dict) else None
            if version != 1:
                raise RecipeError(f"recipe version {version} is not known; use a newer intarsia")
            return cls(**{**data, "request": EditRequest(**data["request"])})
        except (RequestError, ValidationError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, RecipeError):
                raise
            reason = str(error).splitlines()[0]
            raise RecipeError(f"the recipe cannot be read ({reason}); use the picture as it was saved") from error


@dataclass(frozen=True, eq=False)
class EditResult:
    """`support` (H, W): outside it every byte of `picture` is the upright source's. `seconds`: wall time.
    `change_masks` (H, W): where each instruction of an addition put something.
    """

    picture: Picture
    support: NDArray[np.bool_]
    recipe: Recipe
    seconds: float
    change_masks: tuple[NDArray[np.bool_], ...] = ()

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the picture, whole or not at all; a PNG carries the recipe. Missing folders are made.

        Raises:
            OutputError: and its kinds; nothing is left behind.
        """
        target = Path(path)
        with output_folder(target):
            self.picture.save(target, text={RECIPE_KEY: self.recipe.to_json()}, overwrite=overwrite)
        return target


def save_mask(mask: NDArray[np.bool_], path: str | Path, overwrite: bool = False) -> Path:
    """Write a mask (H, W), white where it is True, such as the support of a result. Missing folders are made.

    Raises:
        OutputError: and its kinds; nothing is left behind.
    """
    target = Path(path)
    with output_folder(target):
        Picture.from_array(mask.astype(np.uint8) * 255).save(target, overwrite=overwrite)
    return target


def read_recipe(path: str | Path) -> Recipe:
    """The recipe inside a PNG that `EditResult.save` wrote.

    Raises:
        RecipeError: no recipe in it, or a damaged one. `PictureError`: no PNG, or no such file.
    """
    text = read_png_text(path).get(RECIPE_KEY)
    if text is None:
        raise RecipeError(f"{path} holds no recipe; give a PNG that intarsia wrote and nothing has re-saved")
    return Recipe.from_json(text)


def check_output(path: str | Path, *, overwrite: bool, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> Path:
    """The path, if a file can be written there once its missing folders are made; makes nothing.

    Raises:
        OutputFormatError, OutputExistsError, OutputError: before any work is done in vain.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise OutputFormatError(f"cannot write {target}: its suffix must be one of {', '.join(suffixes)}")
    try:
        if target.parent.is_dir():
            return check_writable(target, overwrite=overwrite)
        nearest = next(folder for folder in target.parents if folder.exists())
        if not nearest.is_dir():
            raise OutputError(f"cannot write {target}: {nearest} is not a folder; choose another place")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise _cannot_write(target, error) from error
    return target


@contextlib.contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Make the missing folders of `path`; take them away again where nothing came to be in them."""
    missing: list[Path] = []
    try:
        missing += [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror}; choose another place")
