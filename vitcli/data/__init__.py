"""Data sets, from names and folders to batches on the device."""
