"""From names and folders to batches on the device."""
