"""What reads the pixels of a picture."""
