"""Export of models to the formats of other libraries: one module for each format, and a registry."""
