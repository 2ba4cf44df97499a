"""Arrays of numbers of one shape, in files or in the table itself."""
