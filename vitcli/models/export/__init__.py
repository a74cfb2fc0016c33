"""Models as files of other libraries: one file per target, and a registry."""
