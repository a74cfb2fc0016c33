"""The road from settings to a run: each module is one station of it."""
