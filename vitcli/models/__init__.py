"""The Vision Transformer: one model class, its registry, and its weights in many formats."""
