"""One level out of several that have an order."""
