"""Explanations: from a question about a model to maps, pictures and scores."""
