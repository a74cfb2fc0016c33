"""The shared model and registry module: one Vision Transformer, many names."""
