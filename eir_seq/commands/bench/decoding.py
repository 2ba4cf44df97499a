"""How fast an architecture generates: milliseconds per step, new tokens per second, and the same in transformers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eir_seq.commands.bench.clock import Step, alternate, ratio
from eir_seq.commands.bench.models import Setting, pair
from eir_seq.commands.bench.reference import WITHOUT
from eir_seq.commands.bench.subjects import FIRST
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.models.catalogue import find

WRITING = ("seq2seq-lm", "causal-lm")
"""Tasks that generate, the first that an architecture has."""


@dataclass(frozen=True)
class Way:
    """A way to generate: texts at once, and beams of each."""

    texts: int
    beams: int

    def __str__(self) -> str:
        return f"{self.beams} beams" if self.beams > 1 else f"greedy, batch {self.texts}"


WAYS = (Way(1, 1), Way(8, 1), Way(1, 4))


@dataclass
class DecodingRow:
    """What was measured of one architecture and way.

    `milliseconds`: of the process, per step, which writes a token of each text; `tokens`: new ones per second of the
    process; `ratio`, `wall`: seconds (of the process, of the clock) of transformers by ours.
    """

    model: str
    mode: str
    milliseconds: float
    tokens: float
    ratio: float | None = None
    wall: float | None = None
    why: str = ""


def can_generate(model_type: str) -> bool:
    """Whether an architecture predicts next tokens."""
    return any(task in find(model_type).tasks for task in WRITING)


def measure_decoding(model_type: str, setting: Setting, prompt: int, new: int) -> list[DecodingRow]:
    """Generation in all `WAYS`.

    Args:
        model_type: name of the architecture.
        setting: how it is measured; its texts are not read.
        prompt: tokens of the prompt, or of what an encoder reads.
        new: tokens that are generated.

    Raises:
        UserError: the architecture does not generate.
        RunFailed: transformers generates other tokens.
    """
    tasks = [task for task in WRITING if task in find(model_type).tasks]
    if not tasks:
        raise UserError(Fault("--decode", f"{model_type!r} does not generate text"))
    size = replace(setting.size, length=prompt + new + 1)
    model, reference = pair(model_type, replace(setting, size=size, task=tasks[0]))
    sides: dict[str, Any] = {"ours": model} | ({} if reference is None else {"theirs": reference})
    for side in sides.values():
        side.to(setting.dtype).eval()
    vocabulary = model.config.target_vocabulary() or FIRST + 1
    start = getattr(model.config, "decoder_start_token_id", None) or 0
    fixed = {"decoder_start_token_id": start} if model.task == "seq2seq-lm" else {}
    rows = []
    for way in WAYS:
        given: Mapping[str, Any] = {
            **fixed,
            "max_new_tokens": new, "min_new_tokens": new, "num_beams": way.beams, "do_sample": False, "pad_token_id": 0,
            "eos_token_id": 2,
        }  # fmt: skip
        steps: dict[str, Step] = {name: _step(side, given, setting) for name, side in sides.items()}
        generator = torch.Generator().manual_seed(way.texts)
        prompts = [
            torch.randint(FIRST, vocabulary, (way.texts, prompt), generator=generator).to(setting.device)
            for _ in range(setting.rounds + 1)
        ]
        written: list[Any] = [step(prompts[0]) for step in steps.values()]
        if not all(torch.equal(tokens, written[0]) for tokens in written):
            raise RunFailed(f"{model_type}, {way}: transformers generates other tokens")
        times = alternate(steps, prompts, warm_up=1)
        seconds = times["ours"].seconds
        row = DecodingRow(model_type, str(way), 1000 * statistics.median(seconds) / new, 0.0)
        row.tokens = 1000 * way.texts / row.milliseconds
        row.why = WITHOUT.get(model_type, "") if setting.against else ""
        if "theirs" in times:
            row.ratio, row.wall = (
                ratio(times["theirs"].seconds, seconds),
                ratio(times["theirs"].wall, times["ours"].wall),
            )
        rows.append(row)
    return rows


def _step(model: Any, given: Mapping[str, Any], setting: Setting) -> Step:
    def step(prompt: Tensor) -> Tensor:
        with torch.autocast(setting.device.type, torch.bfloat16, enabled=setting.autocast):
            written: Tensor = model.generate(prompt, attention_mask=torch.ones_like(prompt), **given)
        return written

    return step
