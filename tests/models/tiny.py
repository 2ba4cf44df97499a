"""Every architecture of the catalogue at a tiny size, and documented inputs and targets for each of its tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eir_seq.models import create_model, list_models
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.catalogue import architecture
from eir_seq.models.model import Model
from tests.parity.cases import CASES, VOCABULARY

LENGTHS, LENGTH = (9, 7, 4), 9
Inputs = dict[str, Tensor]

DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "seq_classif_dropout",
    "qa_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout", "dropout_rate",
    "classifier_dropout", "classifier_dropout_prob", "summary_last_dropout", "hidden_dropout",
    "activation_dropout", "moe_token_dropout", "dropout_prob", "nffn_activation_dropout_prob",
)  # fmt: skip

PARITY = {case.name: case.options for case in CASES if "@" not in case.name}
OPTIONS: dict[str, dict[str, Any]] = {
    **PARITY,
    "led": {**PARITY["led"], "attention_window": 4},  # texts here are shorter than its window there
    "longformer": {**PARITY["longformer"], "attention_window": 4},  # texts here are shorter than its window there
    # its texts touch each other as published, unless this is set
    "nystromformer": {**PARITY["nystromformer"], "segment_means_seq_len": 8, "inv_coeff_init_option": True},
    "sequence-default": {"vocab_size": VOCABULARY, "embedding_dim": 32, "num_layers": 2, "num_heads": 4},
}
EXTRA = {case.name: case.extra for case in CASES}
OWN_TARGETS = {case.name: case.targets for case in CASES}
EVERY_TASK = [(model_type, task) for model_type in list_models() for task in architecture(model_type).tasks]


def tiny(model_type: str, task: str = "base", **more: Any) -> Model:
    """A small model of one seed, in evaluation."""
    torch.manual_seed(0)
    return create_model(model_type, {**OPTIONS[model_type], **more}, task=task).eval()


def noisy(model: Model) -> Model:
    """The same with noise on every parameter, so that no two channels are alike."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def text(model: Model, lengths: tuple[int, ...] = LENGTHS, length: int = LENGTH) -> Inputs:
    """Ids padded on the right, each text ending with the end-of-text token."""
    padding = getattr(model.config, "pad_token_id", 0) or 0
    ids = torch.randint(11, VOCABULARY, (len(lengths), length), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(length)[None] < torch.tensor(lengths)[:, None]).long()
    for row, real in enumerate(lengths):
        ids[row, max(real - 1, 0)] = getattr(model.config, "eos_token_id", None) or 2
    return {"input_ids": ids.masked_fill(mask == 0, padding), "attention_mask": mask}


def inputs(model: Model, lengths: tuple[int, ...] = LENGTHS, length: int = LENGTH) -> Inputs:
    """What the documented class of the model's task is called with."""
    given = text(model, lengths, length)
    if isinstance(model.body, EncoderDecoder) and model.task in ("base", "seq2seq-lm"):
        given["decoder_input_ids"] = given["input_ids"][:, :6]
    if any(getattr(layer, "cross", None) is not None for layer in getattr(model.body, "layers", ())):
        memory = torch.randn(3, 5, model.hidden_size, generator=torch.Generator().manual_seed(3))
        given["encoder_hidden_states"] = memory
    if "global_attention_mask" in model.features:
        given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
        given["global_attention_mask"][:, :2] = 1
    elif model.features and (extra := EXTRA.get(model.config.model_type)) is not None:
        ids = given["input_ids"]
        made = extra(ids, torch.Generator().manual_seed(2))
        given |= {name: x for name, x in made.items() if name in model.features}
    if getattr(model.config, "type_vocab_size", 0):
        given["token_type_ids"] = given["input_ids"] % model.config.type_vocab_size
    if model.task in ("multiple-choice", "double-heads"):
        given = {name: torch.stack((x, x.roll(1, 0)), 1) for name, x in given.items()}
    if model.task == "double-heads":
        given |= {"mc_token_ids": given["attention_mask"].cumsum(-1).argmax(-1), "mc_labels": torch.tensor([1, 0, 1])}
    return given


def targets(model: Model) -> Inputs:
    """What the loss of the model's task needs."""
    if model.head is None:
        return {}
    given = inputs(model)
    ids, real = given.get("decoder_input_ids", text(model)["input_ids"]), text(model)["attention_mask"].bool()
    real = real[:, : ids.shape[1]]
    if (own := OWN_TARGETS.get(model.config.model_type, {}).get(model.task)) is not None:
        return own(given, real)
    classes = torch.tensor([1, 0, 1])
    found = {
        "labels": ids.masked_fill(~real, -100),
        "start_positions": torch.tensor([1, 0, 2]),
        "end_positions": torch.tensor([3, 1, 3]),
        "next_sentence_label": classes,
    }
    if model.task in ("sequence-classification", "next-sentence", "multiple-choice"):
        found["labels"] = classes
    elif model.task == "token-classification":
        found["labels"] = (ids % 2).masked_fill(~real, -100)
    elif model.task == "double-heads":
        found["labels"] = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    return {name: found[name] for name in model.head.targets}


def loss(model: Model, output: Any) -> Tensor:
    """The documented loss, or a random projection of all that a body returns."""
    if output.loss is not None:
        found: Tensor = output.loss
        return found + output.get("mc_loss", 0)
    states = [
        x
        for name in ("last_hidden_state", "last_hidden_state_ngram", "pooler_output", "entity_last_hidden_state")
        if (x := output.get(name)) is not None
    ]
    generator = torch.Generator().manual_seed(4)
    projections = [(x * torch.randn(x.shape, generator=generator)).mean() for x in states]
    return torch.stack(projections).sum()
