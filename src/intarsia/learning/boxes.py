"""Where the subject roughly is in photos without masks: a small file of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import BoxError
from intarsia.imaging import Mask
from intarsia.learning.errors import PhotosError

BoxText = str | Sequence[int]
Box = tuple[int, int, int, int]

_NAMES = ("boxes.yaml", "boxes.yml", "boxes.json")
_FORM = "write one line per photo, such as 'photo.jpg: 40,60,128,96' (x,y,w,h)"


def boxes_given(paths: Sequence[Path], given: str | Path | Mapping[str, BoxText]) -> dict[Path, BoxText]:
    """The box of each photo that has one, of a file or a mapping, which may speak of other photos beside these, too.
    Photos are named with or without suffix.

    Raises:
        PhotosError: the file cannot be read, is of another form, or names a photo that is not there.
    """
    if isinstance(given, Mapping):
        return _matched(paths, {str(name): box for name, box in given.items()}, "the given boxes")
    return _matched(paths, _read(Path(given)), f"the boxes {given}")


def boxes_found(paths: Sequence[Path]) -> dict[Path, BoxText]:
    """The same, of the file `boxes.yaml` (`.json`) that lies beside the photos, or beside their folder. The latter may
    be about other folders, too: names that are not those of photos here are ignored in it.

    Raises:
        PhotosError: see `boxes_given`.
    """
    result: dict[Path, BoxText] = {}
    for folder in dict.fromkeys(path.parent for path in paths):
        places = (place / name for place in (folder, folder.parent) for name in _NAMES)
        file = next((place for place in places if place.is_file()), None)
        if file is not None:
            own = [path for path in paths if path.parent == folder]
            result |= _matched(own, _read(file), f"the boxes {file}", strict=file.parent == folder)
    return result


def box_in(path: Path, box: BoxText, rgb: NDArray[np.float32]) -> Box:
    """The box (x, y, w, h) of a photo (H, W, 3). Raises PhotosError: malformed, or not inside the photo."""
    try:
        # What is no box at all is told by `from_box`, too.
        top, left, height, width = Mask.from_box(box, (rgb.shape[0], rgb.shape[1])).box  # type: ignore[arg-type]
    except BoxError as error:
        raise PhotosError(f"photo {path}: {error}") from error
    return left, top, width, height


def _matched(
    paths: Sequence[Path], content: Mapping[str, BoxText], source: str, *, strict: bool = True
) -> dict[Path, BoxText]:
    """`strict`: names must be those of files beside the photos."""
    beside = [*paths, *(path for folder in {path.parent for path in paths} for path in _files(folder))]
    unknown = sorted(set(content) - {name for path in beside for name in (path.name, path.stem)})
    if strict and unknown:
        names = ", ".join(path.name for path in paths)
        raise PhotosError(f"{source} are of {', '.join(unknown)}, but the photos are {names}: correct the names")
    found = {path: content.get(path.name, content.get(path.stem)) for path in paths}
    return {path: box for path, box in found.items() if box is not None}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _read(path: Path) -> Mapping[str, BoxText]:
    import yaml  # JSON is YAML, too

    try:
        # Everything stays text: a photo named 00 is not the number 0.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise PhotosError(f"the boxes {path} cannot be read ({type(error).__name__}): {_FORM}") from error
    except yaml.YAMLError as error:
        raise PhotosError(f"the boxes {path} are neither YAML nor JSON: {_FORM}") from error
    if not isinstance(content, Mapping):
        raise PhotosError(f"the boxes {path} map no photos to boxes: {_FORM}")
    return {name: ",".join(map(str, box)) if isinstance(box, list) else box for name, box in content.items()}
