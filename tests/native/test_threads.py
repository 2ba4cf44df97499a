"""Kernels divide their work among threads."""

from __future__ import annotations

import time

import pytest
import torch

from eir_seq.native import activations, library


@pytest.mark.usefixtures("kernels")
def test_threads_share_the_work() -> None:
    build, before, x = library.chosen(), torch.get_num_threads(), torch.randn(2**20)
    assert build is not None
    if "clang" in build.compiler.lower():
        pytest.skip("torch brings the threads of GCC")
    torch.set_num_threads(2)
    try:
        own, whole = time.thread_time(), time.process_time()
        for _ in range(50):
            activations.activated(x, "gelu")
        own, whole = time.thread_time() - own, time.process_time() - whole
    finally:
        torch.set_num_threads(before)
    assert whole > 1.3 * own
