"""A user's project with an experiment of its own, for tests of configs."""

from __future__ import annotations

from pathlib import Path

MINE = """\
# @package _global_
# My own experiment.
defaults:
  - override /data: reviews_sample
  - override /fusion: mlp-residual
inputs:
  review:
    type: sequence
    column: text
    max_length: 128
    tokenizer: {type: word, min_freq: 2}
    model:
      model_type: longformer
      model_init_config:
        hidden_size: 64
        num_hidden_layers: 1
        num_attention_heads: 2
        attention_window: 64
        max_position_embeddings: 514
outputs:
  sentiment: {type: classification, column: sentiment}
  stars:
    type: regression
    column: stars
data:
  batch_size: 8
trainer:
  max_epochs: 1
"""


def make_project(folder: Path, text: str | bytes = MINE, name: str = "mine") -> Path:
    """A folder with ``conf/experiment/NAME.yaml``; returns that file."""
    path = folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def with_line(text: str, after: str, line: str) -> str:
    """`text` with a further line behind the one that ends with `after`."""
    lines = text.splitlines()
    index = next(number for number, existing in enumerate(lines) if existing.endswith(after))
    return "\n".join([*lines[: index + 1], line, *lines[index + 1 :]]) + "\n"
