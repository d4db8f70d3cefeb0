"""What bitleak knows by name. To add one, write a file and add its line here.

The tables hold strings, so that looking a name up imports nothing.
"""

import importlib
from typing import Any

from bitleak.core.checks import unknown_name

DATASETS = {
    "digits": "bitleak.data.digits:Digits",
    "hub": "bitleak.data.hub:Hub",
    "tiny_imagenet": "bitleak.data.tiny_imagenet:TinyImageNet",
    "arrays": "bitleak.data.array_files:Arrays",
}
MODELS = {
    "cnn": "bitleak.models.cnn:cnn",
    "resnet18": "bitleak.models.resnet:resnet18",
    "resnet20": "bitleak.models.resnet:resnet20",
    "vgg11_bn": "bitleak.models.vgg:vgg11_bn",
    "mobilenet_v2": "bitleak.models.mobilenet:mobilenet_v2",
    "external": "bitleak.models.external:external",
}
QUANTIZERS = {
    "rtn": "bitleak.quant.rtn:RoundToNearest",
    "adaround": "bitleak.quant.adaround:AdaRound",
    "brecq": "bitleak.quant.brecq:BRECQ",
    "obc": "bitleak.quant.obc:OBC",
    "gptq": "bitleak.quant.gptq:GPTQ",
}
ATTACKS = {
    "lira": "bitleak.attacks.lira:LiRA",
    "rmia": "bitleak.attacks.rmia:RMIA",
    "threshold": "bitleak.attacks.threshold:Threshold",
    "population": "bitleak.attacks.population:Population",
    "reference": "bitleak.attacks.reference:Reference",
    "calibrated": "bitleak.attacks.calibrated:Calibrated",
    "quantile": "bitleak.attacks.quantile:Quantile",
}
EXECUTORS = {
    "serial": "bitleak.engine.executors.serial:Serial",
    "processes": "bitleak.engine.executors.processes:Processes",
    "ray": "bitleak.engine.executors.ray:Ray",
}


def find(table: dict[str, str], name: str, *, kind: str) -> Any:
    """The object that a table knows by this name, imported now.

    Args:
        table: One of this module's tables.
        name: A key of it.
        kind: What the table holds, in the singular, for the message.

    Raises:
        ValueError: The name is not known; the message lists the known ones.

    Example:
        >>> find(QUANTIZERS, "rtm", kind="quantizer")
        Traceback (most recent call last):
        ...
        ValueError: unknown quantizer 'rtm': did you mean 'rtn'? Known: adaround, brecq, gptq, obc, rtn
    """
    if name not in table:
        raise ValueError(unknown_name(kind, name, table))
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
