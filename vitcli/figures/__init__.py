"""Pictures. They are drawn on figures of their own, never on pyplot's global state."""
