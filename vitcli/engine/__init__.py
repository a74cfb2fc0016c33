"""Training and evaluation of any model on any batches, independent of data sets and architectures."""
