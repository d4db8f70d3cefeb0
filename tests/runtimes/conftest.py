"""Networks and files that the tests of runtimes share, made once."""

from onnx_networks import codes, expected, exported, file, images, network

__all__ = ["codes", "expected", "exported", "file", "images", "network"]
