"""Training rows that are read again in each epoch instead of being kept (`data.streaming`)."""
