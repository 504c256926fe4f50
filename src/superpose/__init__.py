"""superpose: a lab for decoding with mixtures of token embeddings."""

__version__ = "0.1.0"
