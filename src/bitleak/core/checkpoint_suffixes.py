"""Suffixes of checkpoints that `torch.save` writes, known without PyTorch."""

TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Suffixes of checkpoints."""
