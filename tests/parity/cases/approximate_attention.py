"""Rows of encoders that approximate attention. The reference lets padding leak, so its texts are equally long."""

from __future__ import annotations

from tests.parity.cases.base import LENGTH, ROBERTA_IDS, Case, bertish, segments
from tests.parity.mra_kernel import give_blocks

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
