"""Codes of fewer than 8 bits as bytes, in the order of ONNX.

Code i of n bits is stored in byte floor(i n / 8), the first code in the lowest bits. The format is
that of `TensorProto.raw_data` for 4-bit types (since opset 21) and 2-bit types (since opset 25).
"""

import numpy as np
from jaxtyping import UInt8

CODE_BITS = (2, 4, 8)
"""Widths of the unsigned integer types that hold codes."""


def bits_of(levels: int, *, smallest: int = 2) -> int:
    """Return the width of the narrowest type that holds the codes of a grid.

    Args:
        levels: Number of codes, 2 to 256.
        smallest: Narrowest width that may be used.

    Example:
        >>> [bits_of(levels) for levels in (3, 4, 5, 16, 17)], bits_of(3, smallest=4)
        ([2, 2, 4, 4, 8], 4)
    """
    return next(bits for bits in CODE_BITS if bits >= smallest and 2**bits >= levels)


def pack_codes(codes: UInt8[np.ndarray, "codes"], bits: int) -> bytes:
    """Return codes as bytes; unused bits of the last byte are 0.

    Example:
        >>> pack_codes(np.array([1, 2, 3], np.uint8), 4).hex()
        '2103'
        >>> pack_codes(np.array([3, 0, 1, 2, 1], np.uint8), 2).hex()
        '9301'
    """
    per_byte = 8 // bits
    padded = np.zeros(-(-len(codes) // per_byte) * per_byte, np.uint8)
    padded[: len(codes)] = codes
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).tobytes()


def unpack_codes(packed: bytes, count: int, bits: int) -> UInt8[np.ndarray, "codes"]:
    """Return the codes that `pack_codes` was given.

    Example:
        >>> unpack_codes(bytes.fromhex("9301"), 5, 2).tolist()
        [3, 0, 1, 2, 1]
    """
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    stored = np.frombuffer(packed, np.uint8)[:, None] >> shifts
    return (stored & np.uint8(2**bits - 1)).reshape(-1)[:count]
