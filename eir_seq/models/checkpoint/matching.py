"""Which tensor of a file is which of a model's: every name of the file is accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.models.checkpoint.keymap import NEVER_PARAMETERS, Row, Tensors, Watched, modern
from eir_seq.models.names import published_names

DEEPEST_PREFIX = 6
"""Parts of a name that a wrapper may have put before it."""


@dataclass(frozen=True)
class Match:
    """Tensors of a file by the model's names, and what became of the others; names below are those of the file.

    `tensors`: native -> tensor; `names`: native -> the names that it was read from, or that hold the same; `unused`: no
    parameter of the model; `ignored`: buffers and constants that no model reads; `differing`: pairs of names of one
    tensor with different values, of which the first counts.
    """

    tensors: Tensors
    names: dict[str, list[str]]
    unused: list[str]
    ignored: list[str]
    differing: list[tuple[str, str]]


def match(model: Any, published: Tensors) -> Match:
    """Sort out the tensors of a file. Where it holds a tensor under several names, the key maps' first one counts."""
    spelled: dict[str, str] = {}  # today's spelling -> as in the file
    ignored, unused = [], []
    for name in published:
        if NEVER_PARAMETERS.search(name):
            ignored.append(name)
        elif modern(name) in spelled:
            unused.append(name)
        else:
            spelled[modern(name)] = name
    left = Watched({new: published[old] for new, old in spelled.items()})
    head = list(_pulled(model.declared.rows_of_head(model.config), left, "head."))
    bare: dict[str, str] = {}  # without what a class puts before the body's names -> today's spelling
    for name in sorted(left, key=lambda name: _bare(model, name) == name):  # the class's own spelling first
        if (short := _bare(model, name)) in bare:
            unused.append(spelled[name])
        else:
            bare[short] = name
    rest = Watched({short: left[name] for short, name in bare.items()})
    body = [
        (native, x, [bare[name] for name in names])
        for native, x, names in _pulled(model.declared.body_rows(model.config), rest, "body.")
    ]
    own = model.canonical_names()
    found = Match({}, {}, unused, ignored, [])
    for native, tensor, names in (*body, *head):
        as_filed = [spelled[name] for name in names]
        if native is None:
            ignored.extend(as_filed)
        else:
            _add(found, own.get(native), tensor, as_filed)
    patterns = tuple(map(re.compile, model.architecture.ignored))
    for short in rest:
        known = any(pattern.search(short) for pattern in patterns)
        (ignored if known else unused).append(spelled[bare[short]])
    used = {name for names in found.names.values() for name in names}
    lost = (name for name in dict.fromkeys(unused) if name not in used)  # a part of a fused tensor is enough
    return Match(found.tensors, found.names, list(lost), ignored, found.differing)


def _pulled(rows: Iterable[Row], left: Watched, part: str) -> Iterator[tuple[str | None, Tensor, list[str]]]:
    """Native name (None if dropped), tensor and published names of all that the rows read."""
    for row in rows:
        names: list[str] = []
        for native, tensor in row.pull(left):
            names = left.taken or names  # several tensors may be one published tensor
            left.taken = []
            yield part + native, tensor, names
        if left.taken:
            yield None, torch.empty(0), left.taken
            left.taken = []


def _add(found: Match, native: str | None, tensor: Tensor, names: list[str]) -> None:
    if native is None:
        found.unused.extend(names)
    elif native not in found.tensors:
        found.tensors[native], found.names[native] = tensor, names
    elif torch.equal(found.tensors[native], tensor):
        found.names[native] = [*found.names[native], *names]
    else:
        found.unused.extend(names)
        found.differing.extend((found.names[native][0], name) for name in names)


def _bare(model: Any, name: str) -> str:
    prefixes = (f"{prefix}." for prefix in (*model.declared.prefixes, *model.architecture.prefixes))
    return name.removeprefix(next((prefix for prefix in prefixes if name.startswith(prefix)), ""))


def unwrapped(model: Any, published: Tensors, source: str) -> tuple[Tensors, str]:
    """A file's tensors without what a wrapper put before all names (``module.``, ``_orig_mod.``), and that prefix.

    Tensors without the prefix keep their names.

    Raises:
        UserError: the model is in the file more than once, below different prefixes.
    """
    prefix = _wrapping_prefix(_knows(model), list(published), source)
    if not prefix:
        return published, ""
    inner = {name.removeprefix(prefix): x for name, x in published.items() if name.startswith(prefix)}
    return {**{name: x for name, x in published.items() if not name.startswith(prefix)}, **inner}, prefix


def _knows(model: Any) -> Callable[[str], bool]:
    names = set(published_names(model))
    return lambda name: name in names or _bare(model, name) in names


def _wrapping_prefix(known: Callable[[str], bool], names: list[str], source: str) -> str:
    """The prefix without which most names are known, if it helps at all; the shortest of several that are as good."""
    counts: Counter[str] = Counter()
    for name in map(modern, names):
        counts[""] += known(name)
        for dot in islice(re.finditer(r"\.", name), DEEPEST_PREFIX):
            counts[name[: dot.end()]] += known(name[dot.end() :])
    most = max(counts.values(), default=0)
    if most == counts[""]:
        return ""
    best = sorted((prefix for prefix, count in counts.items() if count == most), key=len)
    if others := [prefix for prefix in best if not prefix.startswith(best[0])]:
        message = f"holds the model's tensors more than once, below {best[0]!r} and {others[0]!r}; keep those of one"
        raise UserError(Fault(source, message))
    return best[0]
