"""LiteRT files made by hand from the format's tables, since no converter from PyTorch is needed here."""

import numpy as np

from bitleak.runtimes.litert_files import packed_tflite, schema


class Graph:
    """A graph to which tensors and operators are added one after the other."""

    def __init__(self):
        self.tables = schema()
        self.tensors, self.nodes, self.codes = [], [], {}
        empty = self.tables.BufferT()
        self.buffers = [empty]

    def tensor(self, name, shape, kind="FLOAT32", *, values=None, grid=None, axis=0, data=None):
        """Add a tensor; `values` are the numbers of a constant, `data` its packed bytes, `grid` (scales, points)."""
        tensor = self.tables.TensorT()
        tensor.name, tensor.hasRank = name, True
        tensor.shape = [max(length, 1) for length in shape]
        if min(shape, default=1) < 0:
            tensor.shapeSignature = list(shape)
        tensor.type = getattr(self.tables.TensorType, kind)
        if grid is not None:
            tensor.quantization = self.tables.QuantizationParametersT()
            scales, points = (np.atleast_1d(part) for part in grid)
            tensor.quantization.scale = [float(value) for value in scales]
            tensor.quantization.zeroPoint = [int(value) for value in points]
            tensor.quantization.quantizedDimension = axis
        tensor.buffer = 0
        if values is not None:
            data = np.ascontiguousarray(values).tobytes()
        if data is not None:
            buffer = self.tables.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def node(self, name, inputs, outputs, *, version=1, options=None, custom=None, **fields):
        """Add an operator; `options` names its table of options."""
        number = getattr(self.tables.BuiltinOperator, name)
        if (name, custom) not in self.codes:
            code = self.tables.OperatorCodeT()
            code.builtinCode, code.version, code.customCode = number, version, custom
            code.deprecatedBuiltinCode = min(number, 127)
            self.codes[name, custom] = code
        node = self.tables.OperatorT()
        node.opcodeIndex = list(self.codes).index((name, custom))
        node.inputs, node.outputs = list(inputs), list(outputs)
        if options:
            node.builtinOptionsType = getattr(self.tables.BuiltinOptions, options)
            node.builtinOptions = getattr(self.tables, f"{options}T")()
            for field, value in fields.items():
                setattr(node.builtinOptions, field, value)
        self.nodes.append(node)

    def model(self, inputs, outputs):
        """Return the tables of the file."""
        model, graph = self.tables.ModelT(), self.tables.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.nodes
        graph.inputs, graph.outputs, graph.name = list(inputs), list(outputs), "main"
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = list(self.codes.values())
        return model

    def content(self, inputs, outputs):
        """Return the bytes of the file."""
        return packed_tflite(self.model(inputs, outputs))
