"""One `.safetensors` file in the layout of the original Stable Diffusion code, as most tools share checkpoints, read as
the parts of a diffusers model: strictly, every tensor used and every parameter given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.ldm_parts import CLIP, OPEN_CLIP, UNET, VAE, Kind, Source, is_leftover, sources_of
from intarsia.backbones.pickles import is_pickle

if TYPE_CHECKING:
    import torch

_PARTS: Mapping[Kind, tuple[str, ...]] = {
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2"),
    "sd1": ("unet", "vae", "text_encoder"),
}
_INPUT = f"{UNET}input_blocks.0.0.weight"
_NAMED = 4
_WANTED = "give a whole SDXL or Stable Diffusion 1.x checkpoint (U-Net, VAE and text encoders)"
# Part of a key -> what the file is: without a U-Net of the known layout, and with one.
_WITHOUT = {
    "lora_": "a LoRA",
    ".lora": "a LoRA",
    "hada_w1": "a LoRA",
    "lokr_w1": "a LoRA",
    "control_model.": "a ControlNet",
    "controlnet_": "a ControlNet",
    "double_blocks.": "a Flux model",
    "joint_blocks.": "a Stable Diffusion 3 model",
    "down_blocks.": "one part of a model in the diffusers layout",
    "encoder.conv_in.": "a VAE",
}
_WITH = {
    "cond_stage_model.model.": "a Stable Diffusion 2 checkpoint",
    "conditioner.embedders.0.model.": "an SDXL refiner",
    "edm_mean": "a checkpoint with EDM's continuous noise levels",
    "edm_vpred.": "a checkpoint with EDM's continuous noise levels",
}
# The file's own words for what its U-Net predicts (modelspec and ComfyUI) -> diffusers'.
_PREDICTS = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}


def single_file_kind(path: str | Path) -> Kind:
    """What a checkpoint is, from its header alone.

    Raises:
        BackboneError: no such file, no safetensors file, cut short, or of a kind Intarsia cannot load.
    """
    path = Path(path).expanduser()
    with _opened(path, "numpy") as weights:
        keys = list(weights.keys())
    foreign = _WITH if _INPUT in keys else _WITHOUT
    what = next((said for mark, said in foreign.items() if any(mark in key for key in keys)), None)
    if what is not None:
        raise BackboneError(f"{path} is {what}, not a checkpoint that can be loaded: {_WANTED}")
    if _INPUT not in keys:
        raise BackboneError(f"{path} holds no U-Net in the original layout ({_some(keys)}): {_WANTED}")
    kind: Kind = "sdxl" if _holds(keys, OPEN_CLIP) or _holds(keys, CLIP["sdxl"]) else "sd1"
    wanted = {"VAE": VAE, "text encoder": CLIP[kind]} | ({"second text encoder": OPEN_CLIP} if kind == "sdxl" else {})
    lacking = [part for part, prefix in wanted.items() if not _holds(keys, prefix)]
    if lacking:
        raise BackboneError(f"{path} holds no {' and no '.join(lacking)}: {_WANTED}")
    return kind


def single_file_schedule(path: str | Path) -> dict[str, Any]:
    """The scheduler settings that a checkpoint itself states, to put over those of its base model; {} for most.

    `prediction_type` by the key "v_pred" or by its metadata; with it, a schedule that ends in pure noise by the key
    "ztsnr", which wants steps counted from the end (Lin et al. 2024, "Common diffusion noise schedules and sample
    steps are flawed", §3.1 and §3.3).

    Raises:
        BackboneError: the file cannot be read.
    """
    with _opened(Path(path).expanduser(), "numpy") as weights:
        keys, metadata = set(weights.keys()), weights.metadata() or {}
    said = metadata.get("modelspec.prediction_type") or metadata.get("modelspec.predict_key") or ""
    prediction = "v_prediction" if "v_pred" in keys else _PREDICTS.get(said.strip().lower())
    settings: dict[str, Any] = {} if prediction is None else {"prediction_type": prediction}
    if "ztsnr" in keys and prediction == "v_prediction":
        settings |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return settings


def load_single_file(
    file: str | Path, parts: str | Path, dtype: torch.dtype, *, unchanged: Collection[str] = ()
) -> dict[str, Any]:
    """The U-Net, the VAE and the text encoder or encoders of a checkpoint: frozen, in eval mode, on the CPU.

    `parts`: a folder in the diffusers layout, with or without weights, whose `config.json`s say how the model is
    built; the number of input channels is the file's own. One tensor after the other is read and cast to `dtype`, but
    for the `unchanged` parts, which keep the file's precision. A VAE that asks for it (`force_upcast`) is float32 where
    the rest is float16.

    Raises:
        BackboneError: see `single_file_kind`; or settings are missing, a parameter has no tensor in the file or one of
            another shape or of whole numbers, or a tensor belongs to no parameter.
    """
    import torch

    file, parts = Path(file).expanduser(), Path(parts)
    kind = single_file_kind(file)
    with _opened(file, "pt") as weights:
        keys = weights.keys()
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in keys}
        channels = shapes[_INPUT][1] if len(shapes[_INPUT]) == 4 else None
        modules = {part: _empty_module(parts, part, channels) for part in _PARTS[kind]}
        plans = {part: sources_of(part, module, kind, shapes) for part, module in modules.items()}
        _require_fit(file, parts, modules, plans, shapes)
        for part, module in modules.items():
            upcast = part == "vae" and dtype is torch.float16 and module.config.get("force_upcast", False)
            target = None if part in unchanged else torch.float32 if upcast else dtype
            wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
            state = {}
            for name, source in plans[part].items():
                tensor = _read(file, weights, source, wanted[name])
                state[name] = tensor.to(target or tensor.dtype, copy=True)
            module.load_state_dict(state, strict=True, assign=True)
            module.eval().requires_grad_(False)
    return modules


def _read(file: Path, weights: Any, source: Source, shape: tuple[int, ...]) -> Any:
    """The tensor of a parameter of `shape`, in the file's precision. Raises BackboneError where it is quantised."""
    if source.third is not None:
        start = source.third * shape[0]
        tensor = weights.get_slice(source.key)[start : start + shape[0]]
    else:
        tensor = weights.get_tensor(source.key)
    if not tensor.is_floating_point():
        raise BackboneError(
            f"{source.key} in {file} is quantised ({tensor.dtype}): use the checkpoint in half or single precision"
        )
    return tensor.T.contiguous() if source.transposed else tensor.reshape(shape)


def _require_fit(
    file: Path,
    parts: Path,
    modules: Mapping[str, Any],
    plans: Mapping[str, Mapping[str, Source]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Raises BackboneError unless every parameter has a tensor of its shape, and every tensor a parameter."""
    used = set()
    for part, module in modules.items():
        parameters, plan = module.state_dict(), plans[part]
        missing = [plan[name].key if name in plan else name for name in parameters]
        missing = sorted({key for key in missing if key not in shapes})
        if missing:
            raise BackboneError(
                f"{file} lacks {len(missing)} of the tensors of the {part!r} described in {parts} ({_some(missing)}): "
                "use the settings of the model it was made from, or download the file again"
            )
        for name, source in plan.items():
            used.add(source.key)
            found = shapes[source.key]
            wanted = source.shape_in_file(tuple(parameters[name].shape), found)
            if found != wanted:
                raise BackboneError(
                    f"{source.key} in {file} has the shape {found}, but the {part!r} described in {parts} needs "
                    f"{wanted}: use the settings of the model it was made from"
                )
    unknown = sorted(key for key in shapes if key not in used and not is_leftover(key))
    if unknown:
        raise BackboneError(
            f"the model described in {parts} has no place for {len(unknown)} of the tensors in {file} "
            f"({_some(unknown)}): use the settings of the model it was made from, or another file"
        )


def _empty_module(parts: Path, part: str, channels: int | None) -> Any:
    """A part as its settings in `parts` describe it, its parameters without memory (on the meta device)."""
    import diffusers
    import transformers
    from accelerate import init_empty_weights

    path = parts / part / "config.json"
    if not path.is_file():
        raise BackboneError(f"{path} is missing: give a folder with the settings of the checkpoint's base model")
    try:
        # Buffers (position numbers) are in no file: they stay real.
        with init_empty_weights(include_buffers=False):
            if part.startswith("text_encoder"):
                kind = "CLIPTextModel" if part == "text_encoder" else "CLIPTextModelWithProjection"
                settings = transformers.CLIPTextConfig.from_pretrained(str(path.parent), local_files_only=True)
                return getattr(transformers, kind)(settings)
            model: Any = diffusers.UNet2DConditionModel if part == "unet" else diffusers.AutoencoderKL
            more = {"in_channels": channels} if part == "unet" and channels is not None else {}
            described = model.load_config(str(path.parent), local_files_only=True)
            if not isinstance(described, dict):
                raise ValueError("it is not a JSON object")
            return model.from_config(described, **more)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise BackboneError(f"no {part!r} can be built from {path} ({reason}): copy the folder again") from error


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    """A safetensors file, its header read and checked against its length.

    Raises:
        BackboneError: no such file, a pickle, no safetensors file, or cut short.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BackboneError(f"{path} is no file: give the path of a .safetensors checkpoint")
    try:
        weights = safe_open(str(path), framework=framework)
    except (OSError, SafetensorError) as error:
        if is_pickle(path):
            raise BackboneError(
                f"{path} is a pickle, which can run code when it is read: convert it to .safetensors, or download that"
            ) from error
        raise BackboneError(
            f"{path} cannot be read as a safetensors file ({error}): download or copy it again"
        ) from error
    with weights as opened:
        yield opened


def _holds(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _some(keys: Iterable[str]) -> str:
    """Up to four of the keys, for a message."""
    listed = list(keys)
    return ", ".join(listed[:_NAMED]) + (", …" if len(listed) > _NAMED else "")
