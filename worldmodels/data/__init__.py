"""Episodes on disk, and batches of frames and of sequences read from them."""
