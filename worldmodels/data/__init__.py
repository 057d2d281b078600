"""Episodes on disk, and batches of frames and sequences that are read from these episodes."""
