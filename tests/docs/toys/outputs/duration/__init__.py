"""A toy kind of output: how long until an event."""
