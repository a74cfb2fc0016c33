"""The steps from settings to a run: settings, assembly, training, saving, resuming."""
