"""Post-training quantizers: a network and calibration images in, integer codes on a grid out.

Every quantizer is a frozen dataclass of hyper-parameters (`scheme.Scheme` and its own), called as
`quantizer(network, calibration, generator) -> QuantizedWeights`. The smallest one is `rtn`.
"""
