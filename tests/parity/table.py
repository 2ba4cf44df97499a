"""Writes docs/parity.md: ``python -m tests.parity.table``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from eir_seq.models.catalogue import architecture
from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, gradients, inputs_of, pair, published_gradients, real_places, transformers

HEADER = f"""# Parity

Each architecture against `transformers` {transformers.__version__}, which is not needed to run anything: a tiny
transformers model gets noise on every weight and is saved; eir_seq loads the files. The table lists the largest
absolute differences in float32 at real tokens, over the hidden states of all layers and over all gradients, with right
padding, and unpadded where the architecture supports it. The tests (`tests/parity`) also compare left padding,
attention weights, every head with its loss, decoding token by token, and files in both directions. A name after `@`
is a variant.

`python -m tests.parity.table` regenerates this table.

| model | tasks | states | gradients |
|---|---|---|---|
"""


def measured(case: Case) -> tuple[float, float]:
    """Greatest differences of states and of gradients (relative to the greatest gradient where that is above one)."""
    with tempfile.TemporaryDirectory() as folder:
        both = pair(case, "base", Path(folder))
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    theirs = both.reference(**inputs, output_hidden_states=True)
    ours = both.ours(**inputs, output_hidden_states=True)
    name = "decoder_hidden_states" if "decoder_hidden_states" in theirs else "hidden_states"
    states = max(difference(a, b, places) for a, b in zip(ours[name], theirs[name], strict=True))
    both.reference.train(case.trains)
    both.ours.train(case.trains)
    gradients(both.reference, both.reference(**inputs).last_hidden_state, places)
    expected = {name: p.grad for name, p in both.reference.named_parameters() if p.grad is not None}
    if hasattr(both.ours.body, "pooler"):
        both.ours.body.pooler = None
    gradients(both.ours, both.ours(**inputs).last_hidden_state, places)
    found = published_gradients(both.ours, case.dead)
    apart = max(difference(found[key], g) / max(1.0, float(g.abs().max())) for key, g in expected.items())
    return states, apart


def main() -> None:
    """Measure all rows and write the page."""
    torch.set_num_threads(1)
    rows = []
    for case in sorted(CASES, key=lambda case: case.name):
        states, apart = measured(case)
        tasks = ", ".join(architecture(case.model_type).tasks) if "@" not in case.name else ""
        rows.append(f"| {case.name} | {tasks} | {states:.1e} | {apart:.1e} |")
    Path("docs/parity.md").write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
