"""Rows of encoders that approximate attention. The oracle lets padding leak, so its texts are equally long."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.parity.cases.base import LENGTH, ROBERTA_IDS, Case, bertish, segments

KERNEL = Path(__file__).parents[3] / ".." / "shared" / "reference" / "mra_cpu_shim.py"


def give_blocks(model: Any) -> None:
    """Without a kernel for products of blocks, which it has for GPUs only, the oracle's attention gives zeros."""
    if not KERNEL.is_file():
        pytest.skip("no kernel for the oracle's blocks here")
    spec = spec_from_file_location("mra_cpu_shim", KERNEL)
    assert spec is not None
    assert spec.loader is not None
    kernel = module_from_spec(spec)
    spec.loader.exec_module(kernel)
    kernel.install()


EQUAL = (LENGTH, LENGTH, LENGTH)

CASES: list[Case] = [
    Case(
        "nystromformer",
        bertish(num_landmarks=4, segment_means_seq_len=LENGTH, conv_kernel_size=5, type_vocab_size=2),
        segments,
        lengths=EQUAL,
        head_mask=False,
    ),
    Case(
        "nystromformer@dense",
        bertish(num_landmarks=LENGTH, segment_means_seq_len=LENGTH, conv_kernel_size=None),
        segments,
        head_mask=False,
    ),
    Case(
        "nystromformer@dense_with_convolution",
        bertish(num_landmarks=LENGTH, segment_means_seq_len=LENGTH, conv_kernel_size=65),
        segments,
        lengths=EQUAL,
        head_mask=False,
    ),
    Case("yoso", bertish(**ROBERTA_IDS), lengths=EQUAL, attends=False),
    Case("yoso@convolution", bertish(conv_window=3, hash_code_len=5, **ROBERTA_IDS), lengths=EQUAL, attends=False),
    *(
        Case(
            f"mra{variant}",
            bertish(**{"max_position_embeddings": 128, "block_per_row": 1, **more}, **ROBERTA_IDS),
            lengths=(96, 96, 96),
            attends=False,
            mend=give_blocks,
        )
        for variant, more in (
            ("", {}),
            ("@sparse", {"approx_mode": "sparse"}),
            ("@whole", {"block_per_row": 3, "max_position_embeddings": 96}),
            ("@first", {"initial_prior_first_n_blocks": 1, "block_per_row": 2}),
            ("@diagonal", {"initial_prior_diagonal_n_blocks": 1, "block_per_row": 2}),
        )
    ),
]
