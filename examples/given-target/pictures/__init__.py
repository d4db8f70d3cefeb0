"""A package as people have them: a network of its own, its training, and its checkpoint."""

from pictures.network import make_network

__all__ = ["make_network"]
