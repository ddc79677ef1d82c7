"""The whole way from photos to a subject."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.backbones import whole_unet
from intarsia.conditioning import Conditioning
from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically
from intarsia.learning.advisor import regular_prompts, release, require_advisor
from intarsia.learning.bank import Bank, Sample, encode_prompts, encode_views
from intarsia.learning.config import LearnConfig
from intarsia.learning.dictionary import AttributeDictionary, dictionary_from
from intarsia.learning.errors import LearningError
from intarsia.learning.memory import require_room
from intarsia.learning.photos import Photos
from intarsia.learning.preview import write_preview
from intarsia.learning.progress import LearnProgress, Report, ignore
from intarsia.learning.regular import Painter, RegularImage, paint_regular_images
from intarsia.learning.subject import Subject
from intarsia.learning.trainer import require_range, train
from intarsia.learning.views import View, draw_views
from intarsia.perception import AttributeNamer, RegularPrompt, Vocabulary, VocabularyNamer, describe

if TYPE_CHECKING:
    from intarsia.backbones import Backbone


def learn_subject(
    backbone: Backbone,
    photos: Photos,
    class_noun: str,
    painter: Painter,
    config: LearnConfig | None = None,
    *,
    namer: AttributeNamer | None = None,
    work_folder: Path | None = None,
    progress: Report | None = None,
) -> Subject:
    """Learn the subject of some photos: name its attributes, paint regular images, train a LoRA (DreamMix).

    The backbone comes back bit-identical. With `work_folder`, that folder gets `dictionary.yaml`,
    `manifest.jsonl`, `regular/`, `preview.png` and `checkpoint.pt`, and a later call with the same photos
    and settings goes on from there to the same bytes. Ctrl-C while training stops early and still returns a
    subject (`steps_done` tells); a resumed run then finishes it.

    Args:
        class_noun: what kind of thing it is, such as "duck" or "alarm clock".
        painter: paints the regular images with the same backbone; not called with `regular_images=0`.
        namer: by default `VocabularyNamer(backbone)`, which needs a backbone with an image encoder. Its
            `vocabulary`, if it has one, is recombined; an `AttributeAdvisor` may recombine itself
            (`regular_prompts="advisor"`).

    Raises:
        LearningError: no class noun, a model in float16, too little memory, or learning fails.
        NamerError: attributes cannot be named.
        ResumeError: the work folder is another run's. OutputError: the work folder cannot be written.
    """
    config = LearnConfig() if config is None else config
    report = ignore if progress is None else progress
    class_noun = checked_class_noun(class_noun)
    require_range(backbone)
    require_advisor(config, hasattr(namer, "recombine"))
    # As it will be in training, where an offloaded U-Net first makes its own room.
    with nullcontext() if backbone.execution_device is not None else _others_parked(backbone):
        require_room(backbone, config)
    folder = None if work_folder is None else _made(Path(work_folder))
    vocabulary = getattr(namer, "vocabulary", None) or Vocabulary.of(backbone)
    dictionary = _named(backbone, photos, class_noun, namer, vocabulary, report)
    if folder is not None:
        write_file_atomically(folder / "dictionary.yaml", dictionary.to_yaml().encode(), overwrite=True)
    prompts = regular_prompts(dictionary, class_noun, config, vocabulary, namer)
    release(namer)
    regular = _painted(backbone, photos, prompts, painter, config, folder, report)
    kept = [image for image in regular if image.kept]
    banks = _Banks(backbone, photos, class_noun, dictionary, kept, config, report)
    if folder is not None:
        write_preview(folder / "preview.png", banks.views(0), regular)
    fingerprint = _fingerprint(backbone, photos, banks.prompts, kept, config)
    with _others_parked(backbone):
        trained = train(backbone, banks.of, config, fingerprint=fingerprint, folder=folder, report=report)
    stopped = f"stopped after {trained.steps_done} of {config.steps} steps"
    report(
        LearnProgress(
            "done",
            trained.steps_done,
            config.steps,
            message=stopped if trained.steps_done < config.steps else "",
        )
    )
    return Subject(
        class_noun=class_noun,
        token=config.token,
        dictionary=dictionary,
        lora=trained.lora,
        rank=config.rank,
        alpha=config.alpha,
        base_name=backbone.name,
        base_hash=backbone.hash,
        licence=backbone.licence,
        preset=config.preset_name,
        photo_hashes=photos.hashes,
        steps_done=trained.steps_done,
    )


def checked_class_noun(class_noun: str) -> str:
    """Without blanks at its ends. Raises LearningError where nothing is left."""
    if not (noun := " ".join(class_noun.split())):
        raise LearningError("no class noun was given: say what kind of thing the subject is, such as duck")
    return noun


class _Banks:
    """The samples of one epoch at a time; prompts and regular images are encoded once."""

    def __init__(
        self,
        backbone: Backbone,
        photos: Photos,
        class_noun: str,
        dictionary: AttributeDictionary,
        regular: list[RegularImage],
        config: LearnConfig,
        report: Report,
    ) -> None:
        self.backbone, self.photos, self.config, self.report = backbone, photos, config, report
        words = {"token": config.token, "class_noun": class_noun}
        plain = [template.format(**words) for template in config.templates]
        first = {kind: values[0] for kind, values in dictionary.kinds.items()}
        named = [describe(class_noun, first, token=config.token)] if config.named_share and first else []
        self.prompts = [*plain, *named, *(image.prompt.text for image in regular)]
        self.plain, self.named = tuple(range(len(plain))), tuple(range(len(plain), len(plain) + len(named)))
        self._images = regular
        self._regular: tuple[Sample, ...] | None = None
        self._conditioning: Conditioning | None = None
        self._epoch: tuple[int, Bank] | None = None

    def views(self, epoch: int) -> list[View]:
        """The windows of the photos in an epoch."""
        return draw_views(self.photos, self.config, self.backbone.native_size, self.backbone.size_multiple, epoch)

    def of(self, epoch: int) -> Bank:
        """The bank of an epoch, encoded when first asked for."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._encode(epoch))
        return self._epoch[1]

    def _encode(self, epoch: int) -> Bank:
        def report(step: int, total: int) -> None:
            self.report(LearnProgress("encode", step, total))

        views = self.views(epoch)
        share = round(self.config.named_share * len(views)) if self.named else 0
        # Spread evenly over the photos: row k is "named" where the running share passes a whole number.
        prompts = [
            self.named if (k + 1) * share // len(views) > k * share // len(views) else self.plain
            for k in range(len(views))
        ]
        with _at_work(self.backbone):
            if self._conditioning is None or self._regular is None:
                self._conditioning = encode_prompts(self.backbone, self.prompts)
                start = len(self.prompts) - len(self._images)
                rows = [(start + k,) for k in range(len(self._images))]
                pictures = [image.view for image in self._images]
                self._regular = encode_views(self.backbone, pictures, rows, regular=True, report=report)
            subject = encode_views(self.backbone, views, prompts, regular=False, report=report)
        return Bank(subject, self._regular, self._conditioning)


def _named(
    backbone: Backbone,
    photos: Photos,
    class_noun: str,
    namer: AttributeNamer | None,
    vocabulary: Vocabulary,
    report: Report,
) -> AttributeDictionary:
    report(LearnProgress("name", 0, 1))
    chosen = VocabularyNamer(backbone, vocabulary) if namer is None else namer
    found = chosen.name([p.rgb for p in photos.items], [p.mask for p in photos.items], class_noun)
    dictionary = dictionary_from(found, class_noun)
    report(LearnProgress("name", 1, 1, message=", ".join(sum(dictionary.kinds.values(), ()))))
    return dictionary


def _painted(
    backbone: Backbone,
    photos: Photos,
    prompts: list[RegularPrompt],
    painter: Painter,
    config: LearnConfig,
    folder: Path | None,
    report: Report,
) -> list[RegularImage]:
    if not prompts:
        return []

    def painted(step: int, total: int) -> None:
        report(LearnProgress("paint", step, total))

    return paint_regular_images(backbone, photos, prompts, painter, config, folder, painted)


def _fingerprint(
    backbone: Backbone, photos: Photos, prompts: list[str], regular: list[RegularImage], config: LearnConfig
) -> str:
    """sha256 of all that decides the weights besides the number of steps."""
    digest = hashlib.sha256("\n".join([config.fingerprint, backbone.hash, *photos.hashes, *prompts]).encode())
    for image in regular:
        digest.update(image.rgb.tobytes())
        digest.update(image.mask.tobytes())
    return digest.hexdigest()


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the work folder {folder}: {error.strerror}; choose another") from error
    return folder


@contextmanager
def _others_parked(backbone: Backbone) -> Iterator[None]:
    """The U-Net is on its device for the duration, whole; on an accelerator all other parts wait in ordinary memory."""
    if backbone.execution_device is not None:
        with whole_unet(backbone):
            yield
        return
    device = backbone.device
    parts = {name: module for name, module in backbone.modules().items() if name != "unet"}
    for module in parts.values():
        module.to("cpu")
    try:
        yield
    finally:
        for module in parts.values():
            module.to(device)


@contextmanager
def _at_work(backbone: Backbone) -> Iterator[None]:
    """Parked parts back on the U-Net's device for the duration; those under a memory plan come by themselves."""
    if backbone.execution_device is not None:
        yield
        return
    places = {name: next(module.parameters()).device for name, module in backbone.modules().items() if name != "unet"}
    for name in places:
        backbone.modules()[name].to(backbone.device)
    try:
        yield
    finally:
        for name, place in places.items():
            backbone.modules()[name].to(place)
