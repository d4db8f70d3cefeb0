"""Everything that a config can name. To add an entry, write a file and add its line here.

The tables hold strings, so that importing them imports nothing else. Code outside this package needs no line: a config
names it as `package.module:Name`.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from bitleak.core.checks import unknown_name
from bitleak.core.outside import is_outside, load_outside

DATASETS = {
    "digits": "bitleak.data.digits:Digits",
    "hub": "bitleak.data.hub:Hub",
    "tiny_imagenet": "bitleak.data.tiny_imagenet:TinyImageNet",
    "arrays": "bitleak.data.array_files:Arrays",
    "table": "bitleak.data.table:TableFile",
}
MODELS = {
    "mlp": "bitleak.models.mlp:mlp",
    "cnn": "bitleak.models.cnn:cnn",
    "resnet18": "bitleak.models.resnet:resnet18",
    "resnet20": "bitleak.models.resnet:resnet20",
    "vgg11_bn": "bitleak.models.vgg:vgg11_bn",
    "mobilenet_v2": "bitleak.models.mobilenet:mobilenet_v2",
    "external": "bitleak.models.external:external",
}
TABLE_MODELS = ("mlp", "external")
"""Names of `MODELS` that take rows of a table; all others are for images."""

QUANTIZERS = {
    "rtn": "bitleak.quantizers.rtn:RoundToNearest",
    "adaround": "bitleak.quantizers.adaround:AdaRound",
    "brecq": "bitleak.quantizers.brecq:BRECQ",
    "obc": "bitleak.quantizers.obc:OBC",
    "gptq": "bitleak.quantizers.gptq:GPTQ",
}
TRAINED_QUANTIZERS = {
    "qat": "bitleak.quantizers.qat:QuantizationAwareTraining",
}
"""Quantization by further training, which takes all members of a model with their labels; audits alone have these."""

TOOLS = {
    "onnxruntime": "bitleak.tools.onnxruntime_tool:quantize_static",
    "openvino": "bitleak.tools.openvino_tool:quantize_nncf",
    "export": "bitleak.tools.export_tool:export_codes",
    "torchao": "bitleak.tools.torchao_tool:quantize_weights",
    "brevitas": "bitleak.tools.brevitas_tool:quantize_with_brevitas",
}
"""Functions of other kits that the quantizer `tool` calls."""

RUNTIMES = {
    "onnx": "bitleak.runtimes.onnx:OnnxRuntime",
    "openvino": "bitleak.runtimes.openvino:OpenVinoRuntime",
    "litert": "bitleak.runtimes.litert:LiteRtRuntime",
}
RUNTIME_OF_SUFFIX = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}
"""Names of `RUNTIMES` by the suffix of their files."""

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Suffixes of checkpoints that `torch.save` writes."""

ATTACKS = {
    "lira": "bitleak.attacks.lira:LIRA_FORMS",
    "rmia": "bitleak.attacks.rmia:RMIA_FORMS",
    "threshold": "bitleak.attacks.threshold:Threshold",
    "signals": "bitleak.attacks.threshold:ON_OTHER_SIGNALS",
    "gap": "bitleak.attacks.threshold:GAP_ATTACK",
    "population": "bitleak.attacks.population:Population",
    "reference": "bitleak.attacks.reference:Reference",
    "calibrated": "bitleak.attacks.calibrated:CALIBRATED_FORMS",
    "quantile": "bitleak.attacks.quantile:QUANTILE_FORMS",
}
"""A word of a config names an attack's class, of which it makes the default form, or several forms in a tuple."""

JOINT_ATTACKS = {
    "joint": "bitleak.attacks.joint:Joint",
    "joint-learned": "bitleak.attacks.joint_learned:LearnedJoint",
}
"""Attacks on several releases of one target, see `joint_attacks` of a config."""

METRICS = {
    "advantage": "bitleak.metrics.advantage:Advantage",
}
"""Metrics that a config can add to those that every table has."""

FIGURES = {
    "tradeoff": "bitleak.report.figures.tradeoff:TRADEOFF",
    "roc": "bitleak.report.figures.roc_curves:ROC",
    "bars": "bitleak.report.figures.bars:BARS",
    "power": "bitleak.report.figures.power_curves:POWER",
    "channels": "bitleak.report.figures.channels_figure:CHANNELS_FIGURE",
}
"""Figures of the report, in the order of the page."""


STEPS = {
    "images": "bitleak.steps.load_images:LoadImages",
    "splits": "bitleak.steps.draw_splits:DrawSplits",
    "mislabel": "bitleak.steps.mislabel_images:MislabelImages",
    "part": "bitleak.steps.divide_pool:DividePool",
    "assign": "bitleak.steps.assign_members:AssignMembers",
    "target": "bitleak.steps.load_target:LoadTarget",
    "release": "bitleak.steps.load_release:LoadRelease",
    "orient": "bitleak.steps.orient_images:OrientImages",
    "outsiders": "bitleak.steps.assign_references:AssignReferences",
    "imitated": "bitleak.steps.read_answers_file:ReadAnswersFile",
    "estimator": "bitleak.steps.fit_estimator:FitEstimator",
    "imitate": "bitleak.steps.imitate_target:ImitateTarget",
    "copies": "bitleak.steps.find_copies:FindCopies",
    "train": "bitleak.steps.train_model:TrainModel",
    "quantize": "bitleak.steps.quantize_model:QuantizeModel",
    "tool": "bitleak.steps.apply_tool:ApplyTool",
    "qat": "bitleak.steps.train_quantized:TrainQuantized",
    "query": "bitleak.steps.query_model:QueryModel",
    "weigh": "bitleak.steps.weigh_weights:WeighWeights",
    "attack": "bitleak.steps.attack_targets:AttackTargets",
    "attack_partly": "bitleak.steps.attack_partly_quantized:AttackPartlyQuantized",
    "play_partly": "bitleak.steps.play_partly_quantized:PlayPartlyQuantized",
    "thresholds_partly": "bitleak.steps.choose_partly_thresholds:ChoosePartlyThresholds",
    "attack_alike": "bitleak.steps.attack_full_alike:AttackFullAlike",
    "estimate": "bitleak.steps.estimate_baseline:EstimateBaseline",
    "thresholds": "bitleak.steps.choose_thresholds:ChooseThresholds",
    "measure": "bitleak.steps.measure_variant:MeasureVariant",
    "play": "bitleak.steps.play_targets:PlayTargets",
    "strongest": "bitleak.steps.measure_strongest:MeasureStrongest",
    "utility": "bitleak.steps.measure_utility:MeasureUtility",
    "joint": "bitleak.steps.attack_releases:AttackReleases",
    "channel": "bitleak.steps.attack_channel:AttackChannel",
    "compare": "bitleak.steps.compare_variants:CompareVariants",
    "match": "bitleak.steps.match_noise:MatchNoise",
    "noise": "bitleak.steps.add_noise:AddNoise",
    "matched": "bitleak.steps.measure_noise_match:MeasureNoiseMatch",
    "candidates": "bitleak.steps.draw_candidates:DrawCandidates",
    "calibration": "bitleak.steps.measure_calibration:MeasureCalibration",
    "power": "bitleak.steps.measure_power:MeasurePower",
    "memorise": "bitleak.steps.measure_memorisation:MeasureMemorisation",
}
EXECUTORS = {
    "serial": "bitleak.engine.executors.serial:Serial",
    "processes": "bitleak.engine.executors.processes:Processes",
    "ray": "bitleak.engine.executors.ray:Ray",
}


def audit_quantizers() -> dict[str, str]:
    """Return `QUANTIZERS` and `TRAINED_QUANTIZERS`: the quantizers that a config of an audit can name."""
    return {**QUANTIZERS, **TRAINED_QUANTIZERS}


def find(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """Return the object that a table knows by this name, imported now.

    Names of outside code are refused: this is for names that are read from files, see `resolve`.

    Args:
        table: One of this module's tables.
        name: A key of it.
        kind: Singular of the table's subject, for the message.

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


def resolve(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """Like `find`, but `package.module:Name` is imported from outside this package.

    For names from the config or the command line only, which are trusted as code is.

    Raises:
        ValueError: The name is not known, or there is no such object in an importable module.

    Example:
        >>> resolve(DATASETS, "collections:OrderedDict", kind="data set")
        <class 'collections.OrderedDict'>
    """
    return load_outside(name, kind) if is_outside(name) else find(table, name, kind=kind)
