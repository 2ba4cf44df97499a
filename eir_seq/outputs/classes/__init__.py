"""Classes: their names, and what a report says about them."""
