"""Pictures. Each is drawn on its own figure, never on pyplot's global state."""
