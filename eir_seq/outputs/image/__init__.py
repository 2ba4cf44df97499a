"""Pictures, one for each row."""
