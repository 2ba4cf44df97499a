"""Kernels divide their work among threads."""

from __future__ import annotations

import pytest

from eir_seq.native import library


@pytest.mark.usefixtures("kernels")
def test_kernels_call_the_threads_of_torch() -> None:
    """Without OpenMP torch's headers let one thread do all the work, and results are right all the same."""
    build = library.chosen()
    assert build is not None
    if "clang" in build.compiler.lower():
        pytest.skip("torch brings the threads of GCC")
    assert b"GOMP_parallel" in (build.folder / library.LIBRARY).read_bytes()
