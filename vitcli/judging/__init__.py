"""Judging: from a model's answers to metrics, intervals, calibration, tables and comparisons."""
