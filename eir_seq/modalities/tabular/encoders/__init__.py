"""What may read a row of a table."""
