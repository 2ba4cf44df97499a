"""Rows of encoders that approximate attention. The oracle lets padding leak, so its texts are equally long."""

from __future__ import annotations

from tests.parity.cases.base import LENGTH, ROBERTA_IDS, Case, bertish, segments

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
]
