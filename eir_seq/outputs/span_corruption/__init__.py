"""The spans that are taken out of a text."""
