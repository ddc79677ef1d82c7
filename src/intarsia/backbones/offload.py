"""Parts that wait in ordinary memory and come to the device when they are called.

Torch's forward hooks move whole parts (mode "model") or the U-Net's blocks (mode "group"). Nothing is wrapped and no
parameter is replaced by another object, so adapters are injected and ejected as ever.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from intarsia.backbones.memory_plan import MemoryPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from intarsia.backbones.backbone import Backbone

_HOST = "cpu"


def apply_memory_plan(backbone: Backbone, plan: MemoryPlan) -> Backbone:
    """The backbone as planned: on the device, or waiting beside it with `execution_device` set. Once per backbone; its
    parts are the same objects."""
    import torch

    if plan.tile_side is not None:
        _tile(backbone.vae, plan.tile_side, backbone.latent_factor)
    if plan.one_by_one:
        backbone.vae.enable_slicing()
    if plan.mode == "full":
        return backbone.to(plan.device)
    return Offload(plan).take(backbone, torch.empty(0, device=plan.device).device)  # with its index


def share_memory_plan(backbone: Backbone, other: Backbone) -> Backbone:
    """Another backbone, loaded in ordinary memory, under the offload of the first: still one part at a time. Unchanged
    where the first is not offloaded."""
    offload = offload_of(backbone)
    return other if offload is None else offload.take(other, backbone.device)


def follow_memory_plan(backbone: Backbone, *modules: nn.Module | None) -> None:
    """Let adapters of a backbone compute where it does; a U-Net inside them that shares its weights comes and goes as
    the backbone's. Nothing happens where the backbone is not offloaded."""
    offload = offload_of(backbone)
    for module in modules:
        if offload is not None and module is not None:
            offload.follow(backbone, module)


@contextmanager
def whole_unet(backbone: Backbone) -> Iterator[None]:
    """The U-Net on the device in one piece, as training needs it; other parts still come when they are called."""
    offload = offload_of(backbone)
    if offload is None:
        yield
        return
    with offload.whole(backbone.unet):
        yield


def offload_of(backbone: Backbone) -> Offload | None:
    """What moves the parts of a backbone; None if nothing does."""
    return _owner(backbone.unet)


def is_offloaded(module: nn.Module) -> bool:
    """Whether a module's weights come when it is called."""
    return _owner(module) is not None


def _owner(module: nn.Module) -> Offload | None:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _Hook) and hook.owner is not None:
            return hook.owner
    return None


def unet_groups(unet: Any) -> list[nn.Module]:
    """What group offload moves at once: each resnet, transformer and sampler of the blocks, and each other layer."""
    from torch import nn

    found: list[nn.Module] = []
    for child in unet.children():
        for block in child if isinstance(child, nn.ModuleList) else [child]:
            inner = list(block.children())
            split = any(isinstance(part, nn.ModuleList) for part in inner)
            for part in inner if split else [block]:
                found += list(part) if isinstance(part, nn.ModuleList) else [part]
    return found


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return list({id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values())


class Offload:
    """The parts of one or more backbones: which are on the device, and who has to go when one is called."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self._whole = False
        self._parts: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
        self._there: set[int] = set()
        self._beside: dict[int, set[int]] = {}
        self._guests: dict[int, list[Tensor]] = {}
        self._visits: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._device: torch.device | None = None

    def take(self, backbone: Backbone, device: torch.device) -> Backbone:
        """Park the parts of a backbone, and bring each when it is called; parts that are known are left alone."""
        self._device = device
        for name, part in backbone.modules().items():
            if id(part) in self._parts:
                continue
            self._parts[id(part)] = part
            weakref.finalize(part, self._forget, id(part)).atexit = False
            self._park(id(part))
            if name == "unet":
                self._watch_unet(part, id(part))
            else:
                # A VAE is used by its methods: its children are what is called.
                for called in part.children() if name == "vae" else [part]:
                    self._watch(called, id(part))
        if self.plan.unet_stays:
            pair = {id(backbone.unet), id(backbone.vae)}
            for key in pair:
                self._beside.setdefault(key, set()).update(pair)
        return replace(backbone, execution_device=device)

    def follow(self, backbone: Backbone, module: nn.Module) -> None:
        """See `follow_memory_plan`."""
        nets = [inner for inner in module.modules() if type(inner) is type(backbone.unet)]
        waiting = {id(tensor) for part in self._parts.values() for tensor in tensors_of(part)}
        if self.plan.mode == "group":
            waiting |= {id(tensor) for net in nets for tensor in tensors_of(net)}
        for tensor in tensors_of(module):
            if id(tensor) not in waiting:
                send_to(self._device, tensor)
        for net in nets:
            self._watch_unet(net, id(backbone.unet))

    @contextmanager
    def whole(self, unet: nn.Module) -> Iterator[None]:
        """See `whole_unet`."""
        before, self._whole = self._whole, True
        try:
            self.use(id(unet))
            yield
        finally:
            self._whole = before
            if self.plan.mode == "group" and not before:
                self._park(id(unet))

    def use(self, key: int) -> None:
        """Have a part on the device, and those that it cannot be beside in ordinary memory."""
        self._send_others_away(key)
        if key not in self._there:
            self._bring(key)

    def _watch(self, called: nn.Module, key: int) -> None:
        called.register_forward_pre_hook(_Hook(self, lambda _: self.use(key)))

    def _watch_unet(self, net: nn.Module, key: int) -> None:
        """`key`: the U-Net's whose weights the net has."""
        if self.plan.mode == "model":
            net.register_forward_pre_hook(_Hook(self, lambda called: self._use_with(key, called)))
            return
        groups = unet_groups(net)
        net.register_forward_pre_hook(_Hook(self, lambda called: self._begin(key, called, groups)))
        net.register_forward_hook(_Hook(self, self._leave), always_call=True)
        for group in groups:
            group.register_forward_pre_hook(_Hook(self, lambda called: self._visit(called, tensors_of(called))))
            group.register_forward_hook(_Hook(self, self._leave), always_call=True)

    def _use_with(self, key: int, net: nn.Module) -> None:
        """The U-Net, and what else of its weights a net has that shares them: those from before LoRAs were fused, which
        go when the U-Net goes."""
        self.use(key)
        if net is not self._parts[key]:
            came = [tensor for tensor in tensors_of(net) if send_to(self._device, tensor)]
            self._guests.setdefault(key, []).extend(came)

    def _begin(self, key: int, net: nn.Module, groups: list[nn.Module]) -> None:
        """A call of a net that comes in groups: first what is in none of them."""
        if self._whole:
            self.use(key)
            return
        self._send_others_away(key)
        grouped = {id(tensor) for group in groups for tensor in tensors_of(group)}
        self._visit(net, [tensor for tensor in tensors_of(net) if id(tensor) not in grouped])

    def _visit(self, called: nn.Module, tensors: list[Tensor]) -> None:
        """Copies on the device for one call; what waits stays as it is, so that nothing has to be copied back."""
        if self._whole:
            return
        self._visits[id(called)] = [(tensor, tensor.data) for tensor in tensors]
        for tensor in tensors:
            tensor.data = moved(tensor.data, self._device)

    def _leave(self, called: nn.Module) -> None:
        for tensor, waiting in self._visits.pop(id(called), ()):
            tensor.data = waiting

    def _send_others_away(self, key: int) -> None:
        for other in self._there - {key} - self._beside.get(key, set()):
            self._park(other)

    def _bring(self, key: int) -> None:
        try:
            self._move(self._parts[key], self._device)
        except BaseException:  # no room, as a rule: what came must not stay there uncounted
            self._park(key)
            raise
        self._there.add(key)

    def _park(self, key: int) -> None:
        self._move(self._parts[key], _HOST)
        send_to(_HOST, *self._guests.pop(key, ()))
        self._there.discard(key)

    @staticmethod
    def _move(part: nn.Module, device: str | torch.device | None) -> None:
        for tensor in tensors_of(part):
            gradient = tensor.grad
            send_to(device, tensor)
            if gradient is not None:
                tensor.grad = moved(gradient, device)

    def _forget(self, key: int) -> None:
        self._there.discard(key)
        self._beside.pop(key, None)
        self._guests.pop(key, None)


class _Hook:
    """A forward hook of an `Offload`. In a deep copy of the module it does nothing: the copy's weights are others."""

    def __init__(self, owner: Offload | None, act: Callable[[Any], None]) -> None:
        self.owner, self._act = owner, act

    def __call__(self, module: nn.Module, *_: Any) -> None:
        if self.owner is not None:
            self._act(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(None, _nothing)


def _nothing(module: Any) -> None:
    pass


def send_to(device: str | torch.device | None, *tensors: Tensor) -> bool:
    """Have the numbers of some tensors, which stay the same objects, on a device; whether any had to move."""
    came = False
    for tensor in tensors:
        values = tensor.data
        new = moved(values, device)
        if new is not values:
            tensor.data, came = new, True
    return came


def take_place_of(leaving: Tensor, tensor: Tensor) -> None:
    """Have the numbers of `tensor` where those of `leaving` are. If they have to move, `leaving` loses its own first:
    there may be no room for both."""
    where = place_of(leaving.data)
    if where != place_of(tensor.data):
        leaving.data = leaving.data.new_empty(0)
        send_to(where, tensor)


def moved(values: Tensor, device: str | torch.device | None) -> Tensor:
    """On another device; the same tensor if it is there."""
    return values.to(device)


def place_of(values: Tensor) -> str | torch.device:
    return values.device


def _tile(vae: Any, side: int, factor: int) -> None:
    """Pictures with a side above `side` pixels go through in overlapping tiles of that size; others as before."""
    vae.enable_tiling()
    vae.tile_sample_min_size = side // factor * factor
    vae.tile_latent_min_size = side // factor
