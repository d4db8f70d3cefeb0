"""From a config to the graph of its tasks: pure, without a file or a network.

```
images -> splits -> train (per model) -> quantize (per model and variant) -> query
       -> attack (per variant and reference), thresholds -> measure -> rows
       -> memorise (per variant), power (at fp32)
```

Rows need answers and sizes (`weigh`), never weights: an audit goes on from answers that were brought
from elsewhere.

Every task carries what it should cost in seconds, from the multiply-adds of the network and the
measured rates in `RATES`, so that a plan can be read before an hour is spent.
"""

from bitleak.plan.builder import Plan, plan
from bitleak.plan.costs import RATES, quantizer_work
from bitleak.plan.evaluation import CONTROL
from bitleak.plan.sizes import NetworkSize, Sizes, reference_rows, sizes_of, target_rows
from bitleak.plan.tasks import VERSIONS

__all__ = [
    "CONTROL",
    "RATES",
    "VERSIONS",
    "NetworkSize",
    "Plan",
    "Sizes",
    "plan",
    "quantizer_work",
    "reference_rows",
    "sizes_of",
    "target_rows",
]
