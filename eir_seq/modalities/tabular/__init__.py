"""Columns of categories and numbers."""
