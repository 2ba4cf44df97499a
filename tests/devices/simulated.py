"""A GPU that is not there: tensors that say they are on ``cuda:0`` and hold their values in memory of the CPU.

An operation that mixes them with tensors of the CPU fails as on a real GPU, and whatever makes the CPU wait for the
device is counted: values that Python reads, and shapes that depend on values. What it computes is right; how kernels of
CUDA would round, and whether one exists, it does not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # which reads the functions of torch.cuda before they are replaced
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

from tests.devices.graphs import Recorder

DEVICE = torch.device("cuda:0")
INSIDE = torch.device("meta")
"""The device that C++ sees: one that is always there."""
NAMES = (DEVICE.type, INSIDE.type)
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default}
"""Operations whose task is to mix devices."""
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations whose indices may be on the CPU."""
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
}
"""Operations whose result, or its shape, Python must know."""


class SimulatedTensor(torch.Tensor):
    """A tensor of the simulated device."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> SimulatedTensor:
        """The same values on the device."""
        with torch.inference_mode(value.is_inference()):
            made: SimulatedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                value.size(),
                strides=value.stride(),
                storage_offset=value.storage_offset(),
                dtype=value.dtype,
                layout=value.layout,
                device=INSIDE,
                requires_grad=False,
            )
        made.value = value
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it says it is."""
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """Always."""
        return True

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        """Its values, without operations on the device."""
        return f"SimulatedTensor({self.value})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Without the mode: a tensor outlived its device."""
        with simulated_device():
            return func(*args, **(kwargs or {}))


class _Named(TorchFunctionMode):
    """What is asked of ``cuda`` reaches C++ under the name that it knows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch._C._nn._parse_to:  # answers what it was asked
            return func(*args, **kwargs)
        if (device := kwargs.get("device")) is not None and torch.device(device).type == "cuda":
            if func in (torch.tensor, torch.as_tensor):
                return func(*args, **(kwargs | {"device": "cpu"})).to(INSIDE)
            kwargs["device"] = INSIDE
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], SimulatedTensor):
            # of lists C++ would make tensors without values
            args = (args[0], tuple(map(_index, args[1])) if type(args[1]) is tuple else _index(args[1]), *args[2:])
        if func is Tensor.new_tensor and isinstance(args[0], SimulatedTensor):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(INSIDE)
        if func is Tensor.tolist:
            return args[0].cpu().tolist()
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], INSIDE)
        elif func is Tensor.to and len(args) > 1 and isinstance(args[1], str):
            args = (args[0], torch.device(args[1]), *args[2:])
        return func(*(_inside(x) for x in args), **kwargs)


def _index(x: Any) -> Any:
    return torch.tensor(x, dtype=None if x else torch.long) if isinstance(x, list) else x


def _inside(x: Any) -> Any:
    return INSIDE if isinstance(x, torch.device) and x.type == "cuda" else x


class _Generator(torch.Generator):
    def __new__(cls, device: Any = None) -> _Generator:
        return super().__new__(cls)


class SimulatedDevice(TorchDispatchMode):
    """While it is entered, ``cuda:0`` is a device.

    `waits`: how often Python waited for it, by operation. `recorder`: of CUDA graphs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.recorder = Recorder()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """One operation, on values of the CPU."""
        kwargs = dict(kwargs or {})
        if torch.is_inference_mode_enabled() and func._can_decompose():  # as autograd does with it elsewhere
            with self:
                if (result := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return result
        flat, _ = tree_flatten((args, kwargs))
        here = any(isinstance(x, SimulatedTensor) for x in flat)
        wanted = kwargs.get("device")
        if not here and (wanted is None or wanted.type not in NAMES):
            return func(*args, **kwargs)
        if here and func not in COPIES:
            _refuse_mixed(func, args, flat)
        if here and func is aten._fused_sdp_choice.default:
            return 0  # the composition of plain operations: its kernels are those of a device
        if func in WAITS or (func in INDEXED and _has_mask(args[1])):
            self._wait(str(func))
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        on_device = here if wanted is None else wanted.type in NAMES
        if (here and not on_device) or (func is aten.copy_.default and not isinstance(args[0], SimulatedTensor)):
            self._wait(f"{func} to the CPU")
        if func in COPIES and on_device and any(_is_of_cpu(x) for x in flat):
            self.recorder.refuse(f"{func} from the CPU")
        plain_args, plain_kwargs = tree_map_only(SimulatedTensor, lambda x: x.value, (args, kwargs))
        result = func(*plain_args, **plain_kwargs)
        if self.recorder.running is not None:
            self.recorder.running.note(func, plain_args, plain_kwargs, result)
        changed = {id(x.value): x for x in flat if isinstance(x, SimulatedTensor)}

        def wrapped(x: Any) -> Any:
            if not isinstance(x, Tensor) or isinstance(x, SimulatedTensor):
                return x
            if id(x) in changed:
                return changed[id(x)]
            return SimulatedTensor(x.resolve_conj().resolve_neg()) if on_device else x

        if func is aten.copy_.default:
            return args[0]
        return tree_map(wrapped, result)

    def _wait(self, operation: str) -> None:
        self.recorder.refuse(operation)
        self.waits[operation] += 1


def on_device(x: Tensor) -> SimulatedTensor:
    """A copy of a tensor on the simulated device."""
    return x if isinstance(x, SimulatedTensor) else SimulatedTensor(x.detach().clone())


def moved(tree: Any) -> Any:
    """A copy of nested tensors on the simulated device."""
    return tree_map_only(Tensor, on_device, tree)


def move(module: nn.Module) -> None:
    """``module.to(DEVICE)``: parameters and buffers; those that are shared stay shared."""
    moved_already: dict[int, Any] = {}
    for part in module.modules():
        for own, kind in ((part._parameters, _parameter), (part._buffers, on_device)):
            for name, x in own.items():
                if x is not None:
                    own[name] = moved_already.setdefault(id(x), kind(x))


def on_cpu(tree: Any) -> Any:
    """Nested tensors, copied to the CPU from any device; gradients find their way back."""
    return tree_map_only(Tensor, lambda x: x.cpu(), tree)


def values(tree: Any) -> Any:
    """The values of nested tensors of the device."""
    return tree_map_only(SimulatedTensor, lambda x: x.value, tree)


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """The device, for a block; its random numbers come from the generator of the CPU."""
    with ExitStack() as stack:
        for name, answer in CUDA.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(_Named())
        device = SimulatedDevice()
        for name, answer in device.recorder.functions.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        yield stack.enter_context(device)


def _nothing(*_: object) -> None:
    pass


CUDA: dict[str, Callable[..., Any]] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda _=None: "simulated",
    "get_device_capability": lambda _=None: (9, 0),
    "is_bf16_supported": lambda *_, **__: True,
    "get_rng_state": lambda _=None: torch.get_rng_state(),
    "set_rng_state": lambda state, _=None: torch.set_rng_state(state),
    "memory_allocated": lambda _=None: 0,
    "max_memory_allocated": lambda _=None: 0,
    **dict.fromkeys(
        ("set_device", "empty_cache", "synchronize", "manual_seed", "manual_seed_all", "reset_peak_memory_stats"),
        _nothing,
    ),
}
"""What ``torch.cuda`` says of it."""


def _parameter(x: Tensor) -> nn.Parameter:
    return nn.Parameter(on_device(x), x.requires_grad)


def _refuse_mixed(func: Any, args: Any, flat: list[Any]) -> None:
    strangers = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor) and x.dim() > 0]
    if func in INDEXED and isinstance(args[0], SimulatedTensor):
        indices = {id(x) for x in args[1] if x is not None}
        strangers = [x for x in strangers if id(x) not in indices]
    assert not any(x.device == INSIDE for x in strangers), "a tensor without values"
    if strangers:
        shapes = ", ".join(str(tuple(x.shape)) for x in strangers)
        raise RuntimeError(f"{func}: expected all tensors on {DEVICE}, found some on the CPU, of shapes {shapes}")


def _is_of_cpu(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, SimulatedTensor)


def _has_mask(indices: Any) -> bool:
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices)
