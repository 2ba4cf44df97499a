"""What reports are made of: plots, tables and the sections that kinds of outputs fill."""
