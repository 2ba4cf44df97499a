"""A text from another one: a translation, a summary."""
