"""Ids of the categories of a column."""

from __future__ import annotations

MISSING, UNSEEN = 0, 1
"""Of a category that is missing, and of one that training rows do not have; those that they have follow."""
KNOWN = 2
