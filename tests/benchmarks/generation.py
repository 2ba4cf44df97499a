"""How fast texts grow beside the oracle's: ``python -m tests.benchmarks.generation``.

Both sides continue the same prompts with the same weights, take turns in one process, and write the same tokens. A
ratio is the median over rounds of (their time / our time); above one, ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from eir_seq.models import create_model, from_pretrained

VOCABULARY = 10_000
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("causal-lm", "GPT2LMHeadModel", {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 2048}),
    "llama": (
        "causal-lm",
        "LlamaForCausalLM",
        {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 688},
    ),
    "t5": ("seq2seq-lm", "T5ForConditionalGeneration", {"d_model": 256, "d_kv": 64, "num_heads": 4, "num_layers": 4,
                                                          "d_ff": 1024, "decoder_start_token_id": 0}),
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 50, "top_p": 0.9},
    "4 beams": {"num_beams": 4},
}


def times(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of all cores, and of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print a table."""
    import transformers

    transformers.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompts", type=int, nargs="+", default=[32, 1024], help="tokens")
    parser.add_argument("--new", type=int, default=128, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| model | | batch | prompt | cpu | wall | new tokens / s, eir_seq | transformers |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.models:
        task, published, options = MODELS[name]
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            create_model(name, {**options, "vocab_size": VOCABULARY}, task=task).save_pretrained(folder)
            ours = from_pretrained(folder).to(args.device)
            theirs = getattr(transformers, published).from_pretrained(folder).to(args.device).eval()
        for kind, more in KINDS.items():
            for batch in args.batches:
                for prompt in args.prompts:
                    ids = torch.randint(100, VOCABULARY, (batch, prompt), device=args.device)
                    given: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "eos_token_id": 5, **more}
                    given |= {"max_new_tokens": args.new, "min_new_tokens": args.new, "pad_token_id": 0}
                    sides = [lambda m=model, i=ids, g=given: m.generate(i, **g) for model in (ours, theirs)]
                    if kind == "greedy":
                        assert torch.equal(*(side() for side in sides))
                    found = [[times(side) for side in sides] for _ in range(args.rounds)]
                    ratio = [statistics.median(b[clock] / a[clock] for a, b in found) for clock in (0, 1)]
                    speed = [batch * args.new / statistics.median(pair[side][1] for pair in found) for side in (0, 1)]
                    print(f"| {name} | {kind} | {batch} | {prompt} | {ratio[0]:.2f} | {ratio[1]:.2f} "
                          f"| {speed[0]:,.0f} | {speed[1]:,.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
