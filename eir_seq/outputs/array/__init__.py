"""Arrays of numbers or of classes, one for each row."""
