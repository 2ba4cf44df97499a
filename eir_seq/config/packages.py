"""Packages that only some experiments need."""

from __future__ import annotations

import importlib.util


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not.

    A folder of that name in the working directory (the one that Weights & Biases writes into, say) is no package.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def missing_package(package: str, *, extra: str | None = None) -> str:
    """What to say about a package that is not installed, which comes with an extra of this project.

    >>> missing_package("kornia", extra="images")
    "kornia is not installed; run: pip install 'eir_seq[images]'"
    """
    return f"{package} is not installed; run: pip install 'eir_seq[{extra or package}]'"
