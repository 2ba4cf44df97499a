"""Our model and the reference's, with the same noisy weights, through the disk in both directions."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models import from_pretrained
from eir_seq.models.catalogue import CATALOGUE, architecture, config_class
from eir_seq.models.model import Model
from eir_seq.models.options import fields
from tests.parity.cases import DECODER_LENGTH, DECODER_LENGTHS, VOCABULARY, Case, Inputs
from tests.parity.cases.images import prefix_tokens

transformers = pytest.importorskip(
    "transformers", reason="the reference implementation is not installed (make test installs it)"
)
masking_utils = pytest.importorskip("transformers.masking_utils")
transformers.logging.set_verbosity_error()

NOISE = 0.1
ALONE = {
    ("t5gemma", "encoder"): {"is_encoder_decoder": False},
    ("reformer", "masked-lm"): {"is_decoder": False},
    ("reformer", "causal-lm"): {"is_decoder": True, "local_num_chunks_after": 0, "lsh_num_chunks_after": 0},
    ("mega", "causal-lm"): {"is_decoder": True, "bidirectional": False},
}
"""What the reference's class of a task wants in its options."""


@dataclass
class Pair:
    """The reference, ours, and the folder that ours was loaded from."""

    reference: Any
    ours: Model
    folder: Path


def reference_model(case: Case, task: str, **more: Any) -> Any:
    """The reference's class for a task, tiny, eager, with noise on every parameter (fresh norms are all alike)."""
    config_class = transformers.CONFIG_MAPPING[case.model_type]
    config = config_class(**{**case.options, **case.reference_only, **ALONE.get((case.model_type, task), {}), **more})
    tasks = architecture(case.model_type).tasks
    whole = not hasattr(transformers, tasks[task].published)  # then this class is known as a part only
    cls = getattr(transformers, tasks["base" if whole else task].published)
    if case.model_type == "stablelm":
        mend_norms()
    torch.manual_seed(0)
    model = cls._from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    model = getattr(model, task) if whole else model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * NOISE)
    if case.calibrated:
        mend_sums()
        inputs = inputs_of(case, config)
        with torch.no_grad():
            for _ in range(3):
                model.base_model.train()(**inputs)
        model.eval()
    if case.mend is not None:
        case.mend(model)
    if case.unknown:
        forward = model.forward
        model.forward = lambda **inputs: forward(**{name: x for name, x in inputs.items() if name not in case.unknown})
    return model


def mask_of(mask_function: Any, **given: Any) -> Any:
    """The reference's mask; one of earlier tokens as it is made for older torch, in a tenth of the time."""
    causal = mask_function is masking_utils.causal_mask_function
    make = masking_utils.sdpa_mask_older_torch if causal else masking_utils.sdpa_mask_recent_torch
    return make(mask_function=mask_function, **given)


masking_utils.sdpa_mask = mask_of


def mend_sums() -> None:
    """The reference gives the gradient of a sum's second term to the argument behind it; residuals learn nothing."""
    from transformers.models.ibert.quant_modules import FixedPointMul

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        passed = gradient / ctx.z_scaling_factor
        return passed, None, None, None, None if ctx.identity is None else passed, None

    FixedPointMul.backward = staticmethod(backward)


def mend_norms() -> None:
    """The reference fails to initialize norms without a bias; what it inherits does not."""
    from transformers.models.stablelm.modeling_stablelm import StableLmPreTrainedModel

    StableLmPreTrainedModel._init_weights = transformers.PreTrainedModel._init_weights


def pair(case: Case, task: str, folder: Path, **more: Any) -> Pair:
    """Both models with equal weights; ours read what the reference saved."""
    reference = reference_model(case, task, **more)
    reference.save_pretrained(folder)
    return Pair(reference, from_pretrained(folder, task=task), folder)


def tokens(
    lengths: tuple[int, ...], length: int, padding: int, eos: int, left: bool, seed: int
) -> tuple[Tensor, Tensor]:
    """Random ids and their mask; each text ends with `eos`."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, VOCABULARY, (len(lengths), length), generator=generator)
    mask = torch.zeros_like(ids)
    for row, real in enumerate(lengths):
        place = slice(length - real, length) if left else slice(0, real)
        mask[row, place] = 1
        ids[row, place.stop - 1] = eos
    return ids.masked_fill(mask == 0, padding), mask


def inputs_of(case: Case, config: Any, *, left: bool = False) -> Inputs:
    """Documented tensors for one call."""
    eos = getattr(config, "eos_token_id", None)
    padding, eos = getattr(config, "pad_token_id", None) or 0, eos if isinstance(eos, int) else 2
    ids, mask = tokens(case.lengths, case.lengths[0], padding, eos, left, 1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "is_encoder_decoder", False):
        decoder_ids, decoder_mask = tokens(DECODER_LENGTHS, DECODER_LENGTH, padding, eos, False, 2)
        inputs |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
    if case.extra is not None:
        inputs |= case.extra(ids, torch.Generator().manual_seed(3))
    return inputs


def with_holes(inputs: Inputs) -> Inputs:
    """The same with some tokens masked between the first and the last of each text, on both sides."""
    generator, masks = torch.Generator().manual_seed(9), {}
    for name in ("attention_mask", "decoder_attention_mask"):
        if (mask := inputs.get(name)) is not None:
            inside = (mask.cumsum(1) > 1) & (mask.flip(1).cumsum(1).flip(1) > 1)
            masks[name] = mask * ~(inside & (torch.rand(mask.shape, generator=generator) < 0.25))
    return {**inputs, **masks}


DECODER = {
    (name, "causal-lm"): {"is_decoder": True} for name in CATALOGUE if "is_decoder" in fields(config_class(name))
}
DECODER[("big_bird", "causal-lm")]["attention_type"] = "original_full"  # between blocks, the reference looks ahead
"""What the reference's class of a task needs in its options."""


CROSS = ("encoder_hidden_states", "encoder_attention_mask")
"""Inputs that classes with heads, but for that of decoders, do not take."""


def task_inputs(case: Case, task: str, config: Any) -> tuple[Inputs, Inputs, Tensor]:
    """Inputs and targets for one task, and which places of its token predictions are real."""
    inputs = inputs_of(case, config)
    if task in ("encoder", "sequence-classification"):
        inputs = {name: tensor for name, tensor in inputs.items() if not name.startswith("decoder_")}
    sides = ("decoder_layers", "num_decoder_layers")
    if task == "causal-lm" and any(hasattr(config, side) for side in sides):  # alone, beside states of some encoder
        memory = torch.randn(*inputs["input_ids"].shape, config.hidden_size, generator=torch.Generator().manual_seed(6))
        inputs |= {"encoder_hidden_states": memory, "encoder_attention_mask": inputs["attention_mask"].flip(0)}
    withheld = (*case.withheld.get(task, ()), *(CROSS if task != "causal-lm" else ()))
    inputs = {name: tensor for name, tensor in inputs.items() if name not in withheld}
    places = real_places(inputs)
    if task in case.targets:
        return inputs, case.targets[task](inputs, places), places
    labels = torch.randint(0, 100, places.shape, generator=torch.Generator().manual_seed(5))
    last = places.shape[1]
    targets: dict[str, Inputs] = {
        "encoder": {},
        "sequence-classification": {"labels": torch.tensor([2, 0, 1])},
        "next-sentence": {"labels": torch.tensor([1, 0, 1])},
        "multiple-choice": {"labels": torch.tensor([1, 0, 1])},
        "token-classification": {"labels": (labels % 3).masked_fill(~places, -100)},
        "question-answering": {
            "start_positions": torch.tensor([3, 0, last + 5]),
            "end_positions": torch.tensor([7, 4, last + 9]),
        },
        "pretraining": {
            "labels": labels.masked_fill(~places, -100),
            "next_sentence_label": torch.tensor([1, 0, 1]),
        },
    }
    if task in ("multiple-choice", "double-heads"):
        inputs = {name: torch.stack((x, x.roll(1, 0)), 1) for name, x in inputs.items()}
    if task == "double-heads":
        ends = inputs["attention_mask"].cumsum(-1).argmax(-1)
        every = torch.stack((labels, labels.flip(1)), 1).masked_fill(inputs["attention_mask"] == 0, -100)
        targets[task] = {"labels": every, "mc_labels": torch.tensor([1, 0, 1]), "mc_token_ids": ends}
    return inputs, targets.get(task, {"labels": labels.masked_fill(~places, -100)}), places


def real_places(inputs: Inputs) -> Tensor:
    """(batch, length) bool over the states that a base model returns last."""
    places = inputs.get("decoder_attention_mask", inputs["attention_mask"]).bool()
    if "visual_embeds" in inputs:
        return torch.cat((places, inputs["visual_attention_mask"].bool()), -1)
    return F.pad(places, (prefix_tokens(inputs), 0), value=True)


def real_rows(inputs: Inputs) -> Tensor:
    """(batch, all tokens) bool over the queries of attention weights in an encoder."""
    masks = (
        inputs[name] for name in ("attention_mask", "entity_attention_mask", "visual_attention_mask") if name in inputs
    )
    return F.pad(torch.cat(tuple(masks), -1).bool(), (prefix_tokens(inputs), 0), value=True)


def assert_same_order(ours: Any, theirs: Any) -> None:
    """Fields that both outputs have stand in one order, so that an index or a slice gives the same."""
    assert [name for name in ours if name in theirs] == [name for name in theirs if name in ours]
    first = next(iter(theirs))
    assert ours[0] is ours[first], first


def difference(ours: Tensor, theirs: Tensor, places: Tensor | None = None) -> float:
    """Greatest absolute difference, at real places only."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    apart = (ours.detach() - theirs.detach()).abs()
    return float((apart if places is None else apart[places]).max())


def gradients(model: nn.Module, state: Tensor, places: Tensor) -> None:
    """Backpropagate a random projection of the real states; the gradients stay on the parameters."""
    generator = torch.Generator().manual_seed(4)
    direction = torch.randn(state.shape, generator=generator)
    model.zero_grad()
    (state * direction)[places].sum().backward()


def published_gradients(ours: Model, dead: str) -> dict[str, Tensor]:
    """Our gradients under published names (key tables move them as they move weights)."""
    shadow = copy.deepcopy(ours)
    with torch.no_grad():
        for (name, target), source in zip(shadow.named_parameters(), ours.parameters(), strict=True):
            reached = not source.requires_grad or not dead or not re.search(dead, name)
            assert source.grad is not None or not source.requires_grad or not reached, f"{name} has no gradient"
            target.copy_(torch.zeros_like(target) if source.grad is None else source.grad)
    return shadow.published_tensors()
