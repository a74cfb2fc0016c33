"""Data sets: names and folders become batches on the device."""
