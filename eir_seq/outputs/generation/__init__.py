"""Texts that models write."""
