"""Modules that all other packages use; they need only the standard library."""
