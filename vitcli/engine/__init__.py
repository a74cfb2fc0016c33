"""Training and judging any model on any batches: nothing here names a data set or an architecture."""
