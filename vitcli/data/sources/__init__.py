"""The sources of data sets, one file per kind; each reading function returns a RawDataset."""
