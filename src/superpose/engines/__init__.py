"""Engines: each drives one kind of model from embeddings."""
