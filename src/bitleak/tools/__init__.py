"""Other quantizers' kits: a function from a network to a file or to a quantized network.

A tool is a function `(network, images, folder, **options) -> path or module`:

| argument | meaning |
|---|---|
| `network` | the trained network, a copy in evaluation mode on the CPU, which may be changed |
| `images` | standardised calibration images, float32, records x channels x height x width |
| `folder` | an empty folder for its files, removed afterwards |
| `spec` | only if the function has such a parameter: shape of the images, mean, standard deviation |
| `**options` | the options of the config's entry |

It returns the path of a file that a runtime executes (`.onnx`, `.xml`, `.tflite`), or a network that computes with
float weights on a grid.
"""
