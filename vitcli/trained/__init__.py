"""Trained models: finding, loading, precision, and the images that they are evaluated on."""
