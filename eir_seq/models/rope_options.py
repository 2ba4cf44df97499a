"""Transformers' `rope_scaling` of decoders with RoPE: its kinds, their faults, the longest text they allow."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from eir_seq.errors import nearest

LENGTH = "original_max_position_embeddings"
NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", LENGTH),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "dynamic": (LENGTH,),
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", LENGTH),
    "longrope": ("attention_factor", "factor", LENGTH),
}
MEANING = f"RoPE scaling for longer texts: rope_type ({', '.join(NEEDED)}) and its factors"


def scaling_kind(scaling: Mapping[str, Any] | None) -> str:
    """The kind of a `rope_scaling`, by its present or its older key."""
    return "default" if scaling is None else str(scaling.get("rope_type", scaling.get("type", "default")))


MOVED = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
}
"""Entries of `rope_parameters` -> the options that some architecture documents for them."""


def transformers_spelling(content: Mapping[str, Any], known: Container[str]) -> Mapping[str, Any]:
    """The contents of a published config.json, with `rope_parameters` of newer files as transformers' options.

    `known`: the options of the architecture; one without `rope_scaling` is left as it is.
    """
    parameters = content.get("rope_parameters")
    if not isinstance(parameters, Mapping) or "rope_scaling" not in known:
        return content
    scaling, found = dict(parameters), {name: x for name, x in content.items() if name != "rope_parameters"}
    for name, options in MOVED.items():
        found |= {option: scaling[name] for option in options if option in known and name in scaling}
        scaling.pop(name, None)
    if scaling_kind(scaling) == "longrope" and LENGTH in scaling:
        found[LENGTH] = scaling.pop(LENGTH)
    return found if scaling_kind(scaling) == "default" else {**found, "rope_scaling": scaling}


def scaling_problem(
    scaling: Mapping[str, Any] | None, *, channels: int, max_positions: int, original: int | None = None
) -> str | None:
    """What is wrong with a `rope_scaling`; see `_problems` for the arguments."""
    return None if scaling is None else next(_problems(scaling, channels, max_positions, original), None)


def longest_text(scaling: Mapping[str, Any] | None, max_positions: int) -> int:
    """The longest text in tokens; linear and dynamic scaling leave `max_position_embeddings` at the old length."""
    kind = scaling_kind(scaling)
    if scaling is None or kind not in ("linear", "dynamic", "yarn"):
        return max_positions
    old = max_positions if kind != "yarn" else scaling.get(LENGTH) or max_positions
    return max(max_positions, int(old * scaling["factor"]))


def _problems(scaling: Mapping[str, Any], channels: int, max_positions: int, original: int | None) -> Iterator[str]:
    """Faults of a `rope_scaling`, one after the other; later ones rely on there being no earlier.

    `channels`: those of a head that are rotated. `max_positions`: max_position_embeddings. `original`: the length of
    texts in the pretraining as the config names it, next to `rope_scaling`.
    """
    kind = scaling_kind(scaling)
    if kind not in NEEDED:
        yield f"rope_type {kind!r} is not one of {', '.join(map(repr, NEEDED))}{nearest(kind, NEEDED)}"
        return
    known = (*NEEDED[kind], *OPTIONAL.get(kind, ()))
    for key in set(scaling) - {"rope_type", "type", *known}:
        yield f"{kind!r} has no {key!r}{nearest(key, known)}"
    for key in known:
        value = scaling.get(key)
        if key in ("short_factor", "long_factor"):
            if not isinstance(value, (list, tuple)) or len(value) != channels // 2 or not all(map(_positive, value)):
                yield f"{kind!r} needs a {key} with one number above 0 for each of {channels // 2} pairs of channels"
        elif key == "truncate":
            if not isinstance(value, bool | None):
                yield f"truncate {value!r} is not true or false"
        elif (key in NEEDED[kind] or value is not None) and not _positive(value):
            yield f"{kind!r} needs a {key} above 0, not {value!r}"
    length = scaling.get(LENGTH)
    if kind == "llama3" and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        yield "low_freq_factor is not below high_freq_factor"
    if kind == "yarn" and not (scaling.get("beta_fast") or 32) >= (scaling.get("beta_slow") or 1):
        yield "beta_fast is below beta_slow"
    if kind == "dynamic" and channels <= 2:
        yield f"'dynamic' needs more than {channels} rotated channels"
    if kind == "dynamic" and length not in (None, max_positions):
        yield f"'dynamic' reads the old length from max_position_embeddings {max_positions}, not {LENGTH} {length}"
    if kind == "longrope":
        if (original or max_positions) < 2:
            yield "'longrope' needs an old length of more than one token"
        if length not in (None, original):
            yield f"'longrope' reads {LENGTH} next to rope_scaling, not within it"
        if original is None and scaling.get("factor") is None and scaling.get("attention_factor") is None:
            yield f"'longrope' needs a factor, an attention_factor, or {LENGTH} next to rope_scaling"


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
