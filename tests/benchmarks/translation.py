"""The reference trained like a finished run: ``python -m tests.benchmarks.translation RUN_FOLDER``.

Same rows, tokenizer, batches in the same order, options of the model, optimizer, schedule and number of steps; fresh
weights by the reference's own rule, its attention and its beam search. The weights of the epoch that is best on the
validation rows write the test rows, as in the run. docs/results.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import cross_entropy

from eir_seq.config.schema import ExperimentConfig
from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.optimization import build_optimizer, build_scheduler, total_steps


def main() -> None:
    """Print the scores and times of both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    config = ExperimentConfig.model_validate(yaml.safe_load((args.run / "config.yaml").read_text()))
    with Console() as console:
        parts = assemble(config, console)
    torch.manual_seed(config.seed)
    start = time.perf_counter()
    reference = _trained(config, parts)
    trained = time.perf_counter() - start
    scores = _scores(config, parts, reference)
    print(f"reference: trained in {trained:.0f} s, wrote in {time.perf_counter() - start - trained:.0f} s")
    print(json.dumps({name: round(score, 3) for name, score in scores.items()}))
    print("ours:", json.dumps(json.loads((args.run / "result.json").read_text())["test"]))


def _fresh(parts: Parts) -> Any:
    """The reference's model with the options of ours, which its published file tells."""
    import transformers

    (encoder,) = parts.network.encoders.values()
    with tempfile.TemporaryDirectory() as folder:
        encoder.backbone.save_pretrained(folder)
        options = transformers.AutoConfig.from_pretrained(folder)
    return transformers.AutoModelForSeq2SeqLM.from_config(options)


def _trained(config: ExperimentConfig, parts: Parts) -> Any:
    (output,) = config.outputs.values()
    reference = _fresh(parts)
    count = sum(p.numel() for p in reference.parameters())
    print(f"reference: {count:,} parameters, {reference.config._attn_implementation}")
    optimizer = build_optimizer(reference, config.optimizer)
    total = total_steps(config.trainer, parts.data.batches_per_epoch)
    scheduler = build_scheduler(optimizer, config.scheduler, total)
    step, epoch, best, kept = 0, 0, float("inf"), reference.state_dict()
    while step < total:
        parts.data.set_position(epoch, 0)
        reference.train()
        for batch in parts.data.train_dataloader():
            (tensors,) = batch["inputs"].values()
            logits = reference(**tensors).logits.flatten(0, 1)
            cross_entropy(logits, tensors["labels"].flatten(), label_smoothing=output.label_smoothing).backward()
            if config.trainer.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(reference.parameters(), config.trainer.gradient_clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            if step == total:
                break
        epoch += 1
        loss = _validation_loss(parts, reference)
        print(f"epoch {epoch}, step {step} of {total}, validation loss {loss:.4f}", flush=True)
        if loss < best:
            best, kept = loss, {name: x.clone() for name, x in reference.state_dict().items()}
    reference.load_state_dict(kept)
    return reference


@torch.no_grad()
def _validation_loss(parts: Parts, reference: Any) -> float:
    """Nats per token, without smoothing."""
    reference.eval()
    nll, count = 0.0, 0
    for batch in parts.data.val_dataloader():
        (tensors,) = batch["inputs"].values()
        tokens = int((tensors["labels"] != -100).sum())
        nll, count = nll + reference(**tensors).loss.item() * tokens, count + tokens
    return nll / count


@torch.no_grad()
def _scores(config: ExperimentConfig, parts: Parts, reference: Any) -> dict[str, float]:
    """Of the test rows, written with the generation options of the run."""
    (output,), ((name, fitted),) = config.outputs.values(), parts.inputs.items()
    tokenizer: Any = fitted.tokenizer
    rows = parts.splits.test
    assert rows is not None
    true, written = list(rows[output.column]), {}
    for batch in parts.data.test_dataloader():
        tensors = {key: x for key, x in batch["inputs"][name].items() if key != "labels"}
        ids = reference.eval().generate(**tensors, **output.generation, max_new_tokens=output.max_length)
        for row, text in zip(batch["row"].tolist(), ids[:, 1:].tolist(), strict=True):
            written[row] = tokenizer.decode(text, skip_special_tokens=True)
    return text_metrics([written[row] for row in range(len(true))], true, bleu_tokenizer=output.bleu_tokenizer)


if __name__ == "__main__":
    main()
