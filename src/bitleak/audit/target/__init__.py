"""The model that somebody has: one network, the list of its members, and three tiers of attacks.

```
audit = audit_model(network, images, labels, members)            # from Python
audit = audited_target(read_config_target(config, tier=0))       # from a config
```
"""

from bitleak.audit.target.blind_baseline import BlindBaseline, blind_baseline
from bitleak.audit.target.config_target import read_config_target
from bitleak.audit.target.file_releases import ReleaseFile, ReleaseTool
from bitleak.audit.target.given_population import PopulationAudit
from bitleak.audit.target.model_audit import audit_model
from bitleak.audit.target.population_audit import checked_lead, planned_target
from bitleak.audit.target.target_audit import TargetAudit
from bitleak.audit.target.target_run import Target, audited_target

__all__ = [
    "BlindBaseline",
    "PopulationAudit",
    "ReleaseFile",
    "ReleaseTool",
    "Target",
    "TargetAudit",
    "audit_model",
    "audited_target",
    "blind_baseline",
    "checked_lead",
    "planned_target",
    "read_config_target",
]
