"""One file per kind of source; each function returns a RawDataset."""
