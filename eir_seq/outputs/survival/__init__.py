"""Time until an event, which censoring may hide."""
