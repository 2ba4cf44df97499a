"""Model parallelism: `device_map` and `parallelize` put the layers of a model on several devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.backbones.stack import Stack
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout

Device = int | str | torch.device
Layers = Mapping[Device, Sequence[int]]
"""Device -> numbers of the layers that it has."""
DeviceMap = Device | Layers | Mapping[str, Device]
"""One for all, or that of each layer; `{"": device}` is one for all, too."""
DIVIDED = ("auto", "balanced")
"""Layers divided evenly among all GPUs, whose number may be one; without any "auto" is the CPU."""


def dispatch(model: Any, device_map: DeviceMap | None) -> None:
    """Move a model to where `device_map` says: a device (name or number of a GPU), "auto" or "balanced", or `Layers`.

    Raises:
        UserError: no such device, or layers that cannot be divided so.
    """
    if isinstance(device_map, Mapping):
        if set(device_map) == {""}:
            dispatch(model, device_map[""])  # type: ignore[arg-type]
        elif any(isinstance(numbers, Device) for numbers in device_map.values()):
            message = "names modules; say which device has which layers, e.g. {0: [0, 1, 2], 1: [3, 4, 5]}"
            raise UserError(Fault("device_map", message))
        else:
            model.parallelize(device_map)
    elif device_map in DIVIDED:
        count = torch.cuda.device_count()
        if count > 1:
            model.parallelize()
        elif count or device_map == "balanced":
            model.to(_device(0))
    elif device_map is not None:
        model.to(_device(device_map))


class ModelParallel:
    """The layers of all stacks on their devices, everything else on the first of them, until `undo`.

    States go from device to device with what the layers share (`Context`). The numbers of a map are those of the
    deepest stack; a shallower one has the first of them.
    """

    def __init__(self, body: nn.Module, head: nn.Module | None, device_map: Layers | None) -> None:
        """`device_map`: device -> numbers of layers; by default they are divided evenly among all GPUs.

        Raises:
            UserError: a layer is missing, named twice, or is none.
        """
        stacks = [module for module in body.modules() if isinstance(module, Stack)]
        if not stacks:
            raise UserError(Fault("device_map", "the layers of this architecture stay together"))
        depth = max(len(stack.layers) for stack in stacks)
        self.devices = _device_of_layers(_evenly(depth) if device_map is None else device_map, depth)
        self.first = _device(next(iter(device_map))) if device_map else self.devices[0]
        self.hooks: list[Any] = []
        for module in (body, head):
            if module is not None:
                module.to(self.first)
        for stack in stacks:
            own = self.devices[: len(stack.layers)]
            for layer, device, following in zip(stack.layers, own, [*own[1:], self.first], strict=True):
                layer.to(device)
                self.hooks.append(layer.register_forward_pre_hook(_bring(device)))
                self.hooks.append(layer.register_forward_hook(_take(following)))

    def undo(self) -> None:
        """Leave the layers where they are and move no more states."""
        for hook in self.hooks:
            hook.remove()


def _bring(device: torch.device) -> Any:
    def hook(layer: nn.Module, args: tuple[Tensor, Context]) -> tuple[Tensor, Context]:  # noqa: ARG001
        x, ctx = args
        if ctx.positions.device == device:
            return x.to(device), ctx
        there: Context = ctx.once(("device", device), lambda: _on(ctx, device))
        there.head_mask, there.cross_head_mask = _moved(ctx.head_mask, device), _moved(ctx.cross_head_mask, device)
        return x.to(device), there

    return hook


def _take(device: torch.device) -> Any:
    def hook(layer: nn.Module, args: Any, x: Tensor) -> Tensor:  # noqa: ARG001
        return x.to(device)

    return hook


def _on(ctx: Context, device: torch.device) -> Context:
    """The same pass as layers on `device` see it."""
    bias = ctx.bias
    return replace(
        ctx,
        layout=_layout(ctx.layout, device),
        positions=ctx.positions.to(device),
        keys=_moved(ctx.keys, device),
        memory=_moved(ctx.memory, device),
        memory_layout=None if ctx.memory_layout is None else _layout(ctx.memory_layout, device),
        bias=None if bias is None else lambda query, key: bias(query, key).to(device),
        position_table=_moved(ctx.position_table, device),
        features={name: x.to(device) if isinstance(x, Tensor) else x for name, x in ctx.features.items()},
        _memo={},
    )


def _layout(layout: Layout, device: torch.device) -> Layout:
    return replace(layout, mask=_moved(layout.mask, device), index=_moved(layout.index, device))


def _moved(x: Tensor | None, device: torch.device) -> Tensor | None:
    return None if x is None else x.to(device)


def _device(name: Device) -> torch.device:
    try:
        device = torch.device("cuda", name) if isinstance(name, int) else torch.device(name)
    except RuntimeError:
        kinds = ", ".join(map(repr, (*DIVIDED, "cpu", "cuda", "cuda:1", "mps")))
        message = f"{name!r} is no device ({kinds} ...){nearest(str(name), DIVIDED)}"
        raise UserError(Fault("device_map", message)) from None
    if device.type == "meta":
        raise UserError(Fault("device_map", "'meta' holds no numbers, so nothing could be loaded"))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(Fault("device_map", f"there is no {device}; this machine has {torch.cuda.device_count()} GPUs"))
    return device


def _evenly(depth: int) -> Layers:
    count = torch.cuda.device_count()
    if not count:
        raise UserError(Fault("device_map", "there are no GPUs to divide the layers among; name devices"))
    size = -(-depth // count)
    return {device: range(start, min(start + size, depth)) for device, start in enumerate(range(0, depth, size))}


def _device_of_layers(device_map: Layers, depth: int) -> list[torch.device]:
    """The device of each of `depth` layers."""
    placed: dict[int, torch.device] = {}
    faults = []
    for name, numbers in device_map.items():
        for number in numbers:
            if number in placed:
                faults.append(Fault("device_map", f"layer {number} is named twice"))
            elif not 0 <= number < depth:
                faults.append(Fault("device_map", f"there is no layer {number}; they are 0 to {depth - 1}"))
            placed[number] = _device(name)
    if missing := [number for number in range(depth) if number not in placed]:
        faults.append(Fault("device_map", f"no device for the layers {', '.join(map(str, missing))}"))
    if faults:
        raise UserError(*faults)
    return [placed[number] for number in range(depth)]
