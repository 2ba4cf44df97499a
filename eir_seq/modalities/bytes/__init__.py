"""Files of any kind, byte by byte."""
