"""Networks as files: written for, opened by and answered in the runtimes that execute them.

A runtime is a frozen dataclass of options whose call opens the content of a file; see
`bitleak.runtimes.runtime`. Each runtime's package is imported in its own files only, when it is
needed, and is installed by an extra such as `bitleak[onnx]`.
"""
