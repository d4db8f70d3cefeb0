"""How much does a classifier leak about who was in its training set, and what does quantizing it change?

The public names below are imported when they are first used, so that `import bitleak` imports
neither torch nor anything else that takes time.

```
codes = bitleak.AdaRound(levels=4)(network, calibration, generator)
scores = bitleak.LiRA()(view)
curve = bitleak.roc(scores, member)
```
"""

import importlib
from typing import Any

_PUBLIC = {
    "AdaRound": "bitleak.quant.adaround",
    "BRECQ": "bitleak.quant.brecq",
    "GPTQ": "bitleak.quant.gptq",
    "OBC": "bitleak.quant.obc",
    "RoundToNearest": "bitleak.quant.rtn",
    "LiRA": "bitleak.attacks",
    "RMIA": "bitleak.attacks",
    "Threshold": "bitleak.attacks",
    "Population": "bitleak.attacks",
    "Reference": "bitleak.attacks",
    "Calibrated": "bitleak.attacks",
    "Quantile": "bitleak.attacks",
    "Joint": "bitleak.attacks",
    "subset_view": "bitleak.attacks",
    "recalibrated": "bitleak.attacks",
    "negative_control": "bitleak.attacks",
    "AttackView": "bitleak.core.types",
    "Images": "bitleak.core.types",
    "ModelSpec": "bitleak.core.types",
    "Outputs": "bitleak.core.types",
    "QuantizedWeights": "bitleak.core.types",
    "Splits": "bitleak.core.types",
    "Weights": "bitleak.core.types",
    "BitleakError": "bitleak.core.errors",
    "Recipe": "bitleak.train.recipe",
    "fit": "bitleak.train.fit",
    "load_quantized": "bitleak.export",
    "make_splits": "bitleak.data",
    "references": "bitleak.data",
    "outputs": "bitleak.query",
    "signals": "bitleak.core.signals",
    "measure": "bitleak.metrics",
    "roc": "bitleak.metrics",
    "tpr_at": "bitleak.metrics",
    "auc": "bitleak.metrics",
    "threshold_for": "bitleak.metrics",
    "at_threshold": "bitleak.metrics",
    "precision": "bitleak.metrics",
    "epsilon_bounds": "bitleak.metrics",
    "one_run_bounds": "bitleak.metrics",
    "exposure": "bitleak.metrics",
    "memorisation": "bitleak.metrics",
    "detectable_auc": "bitleak.metrics",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bitleak' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
