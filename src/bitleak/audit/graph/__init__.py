"""From a config to the graph of its tasks: pure, without a file or a network.

```
images -> splits -> train (per model) -> quantize (per model and variant) -> query
       -> attack (per variant and reference), thresholds -> measure -> rows
       -> memorise (per variant), power (at fp32)
```

Rows need answers and sizes (`weigh`), never weights: an audit goes on from answers that were
brought from elsewhere. Every task is a step of `bitleak.steps` with its parameters, which also
gives its expected seconds and bytes, so that a plan can be read before an hour is spent.
"""

from bitleak.audit.graph.audit_graph import Plan, plan
from bitleak.audit.graph.planned_target import PlannedTarget, population_config
from bitleak.audit.graph.record_counts import reference_rows, scale_of, target_rows
from bitleak.audit.graph.reference_graph import (
    MatchedQuantizer,
    PlannedReferences,
    ReferencePlan,
    plan_references,
)

__all__ = [
    "MatchedQuantizer",
    "Plan",
    "PlannedReferences",
    "PlannedTarget",
    "ReferencePlan",
    "plan",
    "plan_references",
    "population_config",
    "reference_rows",
    "scale_of",
    "target_rows",
]
