"""Training and inference of single architectures: seconds, tokens, products, memory, and the same in transformers."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.commands.bench.clock import (
    PEAK_FLOPS,
    Step,
    Times,
    alternate,
    flops_of,
    peak_bytes,
    peak_step,
    ratio,
)
from eir_seq.commands.bench.reference import WITHOUT, reference_of, taken
from eir_seq.commands.bench.subjects import FIRST, Size, Texts, options_of
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.models import create_model
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.catalogue import find
from eir_seq.models.model import Model

Inputs = dict[str, Tensor]
PREDICTING = ("masked-lm", "seq2seq-lm", "causal-lm")
"""Tasks of ``--head lm``, the first that an architecture has."""
MASKED = 0.15
LEAK = ("nystromformer", "yoso")
"""Those whose texts touch the padding next to them in transformers: texts of one length are compared."""
MULTIPLE = {"reformer": 64, "mra": 32}
"""Those that train on texts padded to a multiple of this length only."""
ENOUGH = 1e-4
"""The greatest difference of outputs in float32, as a share of the greatest output (or of one, where that is more)."""


@dataclass(frozen=True)
class Setting:
    """How models are measured.

    `task`: what is built; ``lm`` for the first of `PREDICTING` that an architecture has. `dtype`: of weights;
    `autocast`: whether products are in bfloat16 instead, as with ``trainer.precision=bf16-mixed``.
    """

    size: Size
    texts: Texts
    options: Mapping[str, Any]
    task: str = "base"
    dtype: torch.dtype = torch.float32
    autocast: bool = False
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    rounds: int = 5
    against: bool = False
    memory: bool = True

    @property
    def products(self) -> torch.dtype:
        """The number format of products."""
        return torch.bfloat16 if self.autocast else self.dtype


@dataclass
class Row:
    """What was measured of one architecture.

    `fill`: share of real tokens in padded batches. Per second of the process on all its cores: `tokens` (real ones),
    and `share`, floating-point operations of real tokens by those of large products. `megabytes`: peak of tensors
    beyond the model. `ratio`, `wall`, `memory`: seconds (of the process, of the clock) and bytes of transformers by
    ours. `why`: what kept transformers from being measured.
    """

    model: str
    mode: str
    milliseconds: float
    tokens: float
    share: float
    megabytes: float
    fill: float
    ratio: float | None = None
    wall: float | None = None
    memory: float | None = None
    difference: float | None = None
    why: str = ""


def measure(model_type: str, setting: Setting) -> list[Row]:
    """Training and inference of an architecture.

    Raises:
        UserError: the options are wrong, or the architecture has no such head.
        RunFailed: outputs of transformers differ.
    """
    model, reference = pair(model_type, setting)
    difference = None if reference is None else compare(model, reference, setting)
    numbers = range(1, setting.rounds + 2)
    batches = [inputs_of(model, setting.texts.batch(number), setting, number) for number in numbers]
    operations = [flops(model, setting.texts.batch(number), setting) for number in numbers]
    sides: dict[str, Any] = {"ours": model} | ({} if reference is None else {"theirs": reference})
    for side in sides.values():
        side.to(setting.dtype)
    rows = []
    for mode in ("training", "inference"):
        train = mode == "training"
        steps: dict[str, Step] = {name: stepper(side, setting, train=train) for name, side in sides.items()}
        times = alternate({**steps, "peak": peak_step(setting.products, setting.device)}, batches)
        row = _row(model_type, mode, times, batches[1:], [count * (3 if train else 1) for count in operations[1:]])
        row.difference, row.why = difference, WITHOUT.get(model_type, "") if setting.against else ""
        if setting.memory:
            used = {name: peak_bytes(partial(step, batches[1]), setting.device) for name, step in steps.items()}
            row.megabytes = used["ours"] / 1e6
            row.memory = used["theirs"] / used["ours"] if "theirs" in used else None
        rows.append(row)
    del sides, model, reference, steps
    gc.collect()
    return rows


def _row(
    model_type: str, mode: str, times: Mapping[str, Times], batches: Sequence[Inputs], operations: Sequence[int]
) -> Row:
    ours = times["ours"].seconds
    real = [_real(batch) for batch in batches]
    rectangles = [batch["attention_mask"].numel() * len(_masks(batch)) for batch in batches]
    done = [count / seconds for count, seconds in zip(operations, ours, strict=True)]
    possible = PEAK_FLOPS / statistics.median(times["peak"].seconds)
    row = Row(
        model=model_type,
        mode=mode,
        milliseconds=1000 * statistics.median(ours),
        tokens=statistics.median(count / seconds for count, seconds in zip(real, ours, strict=True)),
        share=statistics.median(done) / possible,
        megabytes=0.0,
        fill=sum(real) / sum(rectangles),
    )
    if "theirs" in times:
        row.ratio = ratio(times["theirs"].seconds, ours)
        row.wall = ratio(times["theirs"].wall, times["ours"].wall)
    return row


def task_of(model_type: str, task: str) -> str:
    """What is built of an architecture; raises `UserError` where it has no such head."""
    tasks = find(model_type).tasks
    wanted = PREDICTING if task == "lm" else (task,)
    found = [name for name in wanted if name in tasks]
    if not found:
        other = [name for name in tasks if name in ("base", *PREDICTING)]
        raise UserError(Fault("--head", f"{model_type!r} has no head for {task!r}; choose from {', '.join(other)}"))
    return found[0]


def pair(model_type: str, setting: Setting) -> tuple[Model, Any]:
    """A fresh model, and transformers' with the same weights where it is to be compared and can be."""
    torch.manual_seed(0)
    options = {**options_of(model_type, setting.size), **setting.options}
    model = create_model(model_type, options, task=task_of(model_type, setting.task))
    compared = setting.against and model_type not in WITHOUT
    reference = reference_of(model) if compared else None
    return model.to(setting.device), None if reference is None else reference.to(setting.device)


def inputs_of(model: Model, lengths: Sequence[int], setting: Setting, seed: int = 0) -> Inputs:
    """Random texts of these lengths, padded on the right, and labels where there is a head."""
    multiple = MULTIPLE.get(model.config.model_type, 1)
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(lengths)
    mask = (torch.arange(-(-int(sizes.max()) // multiple) * multiple)[None] < sizes[:, None]).long()
    vocabulary = model.config.target_vocabulary() or setting.size.length
    ids = torch.randint(min(FIRST, vocabulary - 1), vocabulary, mask.shape, generator=generator)
    ids = ids.masked_fill(mask == 0, getattr(model.config, "pad_token_id", None) or 0)
    given = {"input_ids": ids, "attention_mask": mask}
    if isinstance(model.body, EncoderDecoder):
        given |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    if "global_attention_mask" in model.features:
        given["global_attention_mask"] = (torch.arange(mask.shape[1]) == 0).long().expand_as(mask)
    if model.task in PREDICTING:
        chosen = mask.bool()
        if model.task == "masked-lm":
            chosen &= torch.rand(mask.shape, generator=generator) < MASKED
        given["labels"] = ids.masked_fill(~chosen, -100)
    return {name: x.to(setting.device) for name, x in given.items()}


def _masks(inputs: Inputs) -> list[Tensor]:
    return [x for name, x in inputs.items() if name in ("attention_mask", "decoder_attention_mask")]


def _real(inputs: Inputs) -> int:
    return sum(int(mask.sum()) for mask in _masks(inputs))


def result_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits of a head, or the last states."""
    output = model(**taken(model, inputs))
    found = output.get("logits")
    states: Tensor = output.last_hidden_state if found is None else found
    return states


def compare(model: Model, reference: nn.Module, setting: Setting) -> float:
    """The greatest difference of outputs at real tokens, as a share of the greatest output.

    Raises:
        RunFailed: it is more than rounding explains.
    """
    lengths = setting.texts.batch(0)
    lengths = [min(lengths)] * 2 if model.config.model_type in LEAK else lengths
    inputs = inputs_of(model, lengths, setting)
    inputs.pop("labels", None)
    with torch.inference_mode():
        ours, theirs = result_of(model.eval(), inputs), result_of(reference.eval(), inputs)
    real = _masks(inputs)[-1].bool()
    difference = float((ours - theirs)[real].abs().max()) / max(1.0, float(theirs[real].abs().max()))
    if not difference <= ENOUGH:
        name = model.config.model_type
        raise RunFailed(
            f"{name}: outputs differ from those of transformers by {difference:.1e} (allowed: {ENOUGH:.0e})"
        )
    return difference


def flops(model: Model, lengths: Sequence[int], setting: Setting) -> int:
    """Floating-point operations of a forward pass of texts, each by itself and without padding."""
    model.eval()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:  # torch's counter hangs on what is to be learned, even without gradients
        parameter.requires_grad_(False)
    counted: dict[int, int] = {}
    for length in set(lengths):
        counted[length] = flops_of(partial(result_of, model, inputs_of(model, [length], setting)))
    for parameter in learned:
        parameter.requires_grad_(True)
    return sum(counted[length] for length in lengths)


def stepper(model: nn.Module, setting: Setting, *, train: bool) -> Step:
    """A training step (forward, backward, AdamW), or a forward pass without gradients."""
    model.train(train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if train else None

    def step(inputs: Inputs) -> None:
        autocast = torch.autocast(setting.device.type, torch.bfloat16, enabled=setting.autocast)
        with torch.set_grad_enabled(train), autocast:
            if "labels" in inputs:
                loss = model(**taken(model, inputs)).loss
            else:
                loss = (result_of(model, inputs) * _masks(inputs)[-1][..., None]).square().mean()
        if optimizer is not None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return step
