"""One network, quantized, measured and written to files: what `bitleak quantize` does.

Each precision is a pair of files, `NAME.safetensors` (codes, scales, zero points and everything
that is not quantized) and `NAME.json` (levels, network, record), which `load_quantized` reads back
bit for bit:

```
quantized = bitleak.single_network.load_quantized("out/obc-3.safetensors")
network = bitleak.models.load(quantized.dequantize())
```
"""

from bitleak.single_network.quantized_files import load_quantized, save_quantized, save_weights

__all__ = ["load_quantized", "save_quantized", "save_weights"]
