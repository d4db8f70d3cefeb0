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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers, to whom __getattr__ says nothing
    from bitleak.attacks import (
        RMIA as RMIA,
    )
    from bitleak.attacks import (
        Calibrated as Calibrated,
    )
    from bitleak.attacks import (
        Joint as Joint,
    )
    from bitleak.attacks import (
        LiRA as LiRA,
    )
    from bitleak.attacks import (
        Population as Population,
    )
    from bitleak.attacks import (
        Quantile as Quantile,
    )
    from bitleak.attacks import (
        Reference as Reference,
    )
    from bitleak.attacks import (
        Threshold as Threshold,
    )
    from bitleak.attacks import (
        attack_view as attack_view,
    )
    from bitleak.attacks import (
        negative_control as negative_control,
    )
    from bitleak.attacks import (
        recalibrated as recalibrated,
    )
    from bitleak.attacks import (
        subset_view as subset_view,
    )
    from bitleak.audit.target import (
        PopulationAudit as PopulationAudit,
    )
    from bitleak.audit.target import (
        ReleaseFile as ReleaseFile,
    )
    from bitleak.audit.target import (
        ReleaseTool as ReleaseTool,
    )
    from bitleak.audit.target import (
        TargetAudit as TargetAudit,
    )
    from bitleak.audit.target import (
        audit_model as audit_model,
    )
    from bitleak.core.errors import BitleakError as BitleakError
    from bitleak.core.signals import signals as signals
    from bitleak.core.types import (
        AttackView as AttackView,
    )
    from bitleak.core.types import (
        Images as Images,
    )
    from bitleak.core.types import (
        ModelSpec as ModelSpec,
    )
    from bitleak.core.types import (
        Outputs as Outputs,
    )
    from bitleak.core.types import (
        QuantizedWeights as QuantizedWeights,
    )
    from bitleak.core.types import (
        Splits as Splits,
    )
    from bitleak.core.types import (
        Weights as Weights,
    )
    from bitleak.data import (
        make_splits as make_splits,
    )
    from bitleak.data import (
        references as references,
    )
    from bitleak.metrics import (
        at_threshold as at_threshold,
    )
    from bitleak.metrics import (
        detectable_auc as detectable_auc,
    )
    from bitleak.metrics import (
        epsilon_bounds as epsilon_bounds,
    )
    from bitleak.metrics import (
        measure as measure,
    )
    from bitleak.metrics import (
        memorisation as memorisation,
    )
    from bitleak.metrics import (
        one_run_bounds as one_run_bounds,
    )
    from bitleak.metrics import (
        precision as precision,
    )
    from bitleak.metrics import (
        threshold_for as threshold_for,
    )
    from bitleak.metrics import (
        tpr_at as tpr_at,
    )

    # by their modules, whose names they share: type checkers take the names for the modules else
    from bitleak.metrics.auc import auc as auc
    from bitleak.metrics.exposure import exposure as exposure
    from bitleak.metrics.roc import roc as roc
    from bitleak.quantizers.adaround import AdaRound as AdaRound
    from bitleak.quantizers.brecq import BRECQ as BRECQ
    from bitleak.quantizers.gptq import GPTQ as GPTQ
    from bitleak.quantizers.obc import OBC as OBC
    from bitleak.quantizers.rtn import RoundToNearest as RoundToNearest
    from bitleak.query import outputs as outputs
    from bitleak.single_network import load_quantized as load_quantized
    from bitleak.train.fit import fit as fit
    from bitleak.train.recipe import Recipe as Recipe

    __version__: str

_PUBLIC = {
    "AdaRound": "bitleak.quantizers.adaround",
    "BRECQ": "bitleak.quantizers.brecq",
    "GPTQ": "bitleak.quantizers.gptq",
    "OBC": "bitleak.quantizers.obc",
    "RoundToNearest": "bitleak.quantizers.rtn",
    "LiRA": "bitleak.attacks",
    "RMIA": "bitleak.attacks",
    "Threshold": "bitleak.attacks",
    "Population": "bitleak.attacks",
    "Reference": "bitleak.attacks",
    "Calibrated": "bitleak.attacks",
    "Quantile": "bitleak.attacks",
    "Joint": "bitleak.attacks",
    "audit_model": "bitleak.audit.target",
    "ReleaseFile": "bitleak.audit.target",
    "ReleaseTool": "bitleak.audit.target",
    "TargetAudit": "bitleak.audit.target",
    "PopulationAudit": "bitleak.audit.target",
    "attack_view": "bitleak.attacks",
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
    "load_quantized": "bitleak.single_network",
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

__all__ = sorted([*_PUBLIC, "__version__"])


if not TYPE_CHECKING:  # hidden from type checkers, so that they refuse names that do not exist

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("bitleak")
        if name not in _PUBLIC:
            raise AttributeError(f"module 'bitleak' has no attribute {name!r}")
        return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
