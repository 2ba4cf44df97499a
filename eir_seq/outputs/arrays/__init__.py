"""What outputs of arrays and of pictures share: decoders, losses, metrics and samples in the report."""
