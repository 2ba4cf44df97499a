"""Published names of a model's tensors: what a user meets in a checkpoint, against the parameters here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.checkpoint.keymap import Row, Same, Tensors, Watched
from eir_seq.models.layers.lora import Lora


@dataclass(frozen=True)
class Named:
    """The parameters here that a published tensor holds, `native`, one or more; `row` of the key map converts them.

    `row_names`: the same as the row knows them.
    """

    row: Row
    native: tuple[str, ...]
    row_names: tuple[str, ...]

    def fuse(self, parts: Iterable[Tensor]) -> Tensor:
        """One (out, n) matrix per parameter -> the published one, (out of all, n); never transposed."""
        ((_, whole),) = _upright(self.row).push(dict(zip(self.row_names, parts, strict=True)))
        return whole

    def split(self, published: str, whole: Tensor) -> list[Tensor]:
        """The inverse of `fuse`; `published`: the name of the weight."""
        moved = dict(_upright(self.row).pull({published: whole}))
        return [moved[name] for name in self.row_names]

    @property
    def of_head(self) -> bool:
        """Whether it belongs to the head of a task."""
        return self.native[0].startswith("head.")

    @property
    def transposed(self) -> bool:
        """Whether the published weight is (in, out)."""
        return bool(getattr(self.row, "transpose", False))


def _upright(row: Any) -> Any:
    return replace(row, transpose=False) if getattr(row, "transpose", False) else row


def published_names(model: Any) -> dict[str, Named]:
    """Every parameter by its published name, as the base class has it, without the prefix of a head's class."""
    own = {name: x for name, x in model.named_parameters() if not is_adapter(name)}
    if not hasattr(model, "declared"):  # a model outside the catalogue has no names but the published ones
        bare = ((name.removeprefix("body."), name) for name in own)
        return {name: Named(Same(name, name), (native,), (name,)) for name, native in bare}
    found = {}
    for part, rows in (
        ("body.", model.declared.body_rows(model.config)),
        ("head.", model.declared.rows_of_head(model.config)),
    ):
        tensors = own | model.saved_buffers()
        shapes = {
            n.removeprefix(part): torch.empty_like(x, device="meta") for n, x in tensors.items() if n.startswith(part)
        }
        left = Watched(shapes)
        for row in rows:
            names: tuple[str, ...] = ()
            left.taken.clear()
            for published, _ in row.push(left):
                names = tuple(left.taken) or names  # one tensor may be several published ones
                left.taken.clear()
                if names and part + names[0] in own:
                    found[published] = Named(row, tuple(part + name for name in names), names)
    return found


def is_adapter(name: str) -> bool:
    """Whether a parameter is of an adapter."""
    return ".lora." in name


def adapters(model: nn.Module) -> dict[str, Lora]:
    """Adapters by the name of the layer that each belongs to."""
    return {name.removesuffix(".lora"): x for name, x in model.named_modules() if isinstance(x, Lora)}


def plain_parameters(model: nn.Module) -> Tensors:
    """All parameters by our names, detached, with what adapters add to them."""
    plain = {name: x.detach() for name, x in model.named_parameters() if not is_adapter(name)}
    for layer, lora in adapters(model).items():
        plain[f"{layer}.weight"] = plain[f"{layer}.weight"] + lora.delta().detach()
    return plain
