"""Tokens that are hidden in a text."""
