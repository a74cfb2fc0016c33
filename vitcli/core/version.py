"""The version of the package, in ``core`` so that every module can import it."""

__version__ = "0.1.0"
