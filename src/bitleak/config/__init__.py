"""From YAML to checked plain data.

A section is a frozen dataclass that the code itself uses: its fields are the keys of the file,
their types are checked by pydantic, and the dataclass checks their ranges. A quantizer's entry is
the quantizer's dataclass plus `name`, `levels` (or `bits`), `preset`, `calibration` and `label`.
An entry `tool` is a `ToolConfig` plus `name`, `calibration` and `label`.

Names are imported when they are first used: validation needs the names of attacks and metrics,
with SciPy, and readers of a single section do not.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers, to whom __getattr__ says nothing
    from bitleak.config.analyses import analysis_variants as analysis_variants
    from bitleak.config.external_section import external_model as external_model
    from bitleak.config.schema import CalibrationConfig as CalibrationConfig
    from bitleak.config.schema import CalibrationInferenceConfig as CalibrationInferenceConfig
    from bitleak.config.schema import Config as Config
    from bitleak.config.schema import DataConfig as DataConfig
    from bitleak.config.schema import QuantizeConfig as QuantizeConfig
    from bitleak.config.schema import QueryConfig as QueryConfig
    from bitleak.config.schema import SplitConfig as SplitConfig
    from bitleak.config.schema import ToolConfig as ToolConfig
    from bitleak.config.schema import bits_label as bits_label
    from bitleak.config.schema import levels_of as levels_of
    from bitleak.config.target_section import TargetConfig as TargetConfig
    from bitleak.config.validation import resolved as resolved
    from bitleak.config.validation import validate as validate
    from bitleak.config.yaml_files import override as override
    from bitleak.config.yaml_files import read_config as read_config

_PUBLIC = {
    "analysis_variants": "bitleak.config.analyses",
    "CalibrationConfig": "bitleak.config.schema",
    "CalibrationInferenceConfig": "bitleak.config.schema",
    "Config": "bitleak.config.schema",
    "DataConfig": "bitleak.config.schema",
    "QuantizeConfig": "bitleak.config.schema",
    "QueryConfig": "bitleak.config.schema",
    "SplitConfig": "bitleak.config.schema",
    "ToolConfig": "bitleak.config.schema",
    "bits_label": "bitleak.config.schema",
    "levels_of": "bitleak.config.schema",
    "TargetConfig": "bitleak.config.target_section",
    "external_model": "bitleak.config.external_section",
    "resolved": "bitleak.config.validation",
    "validate": "bitleak.config.validation",
    "override": "bitleak.config.yaml_files",
    "read_config": "bitleak.config.yaml_files",
}

__all__ = [
    "CalibrationConfig",
    "CalibrationInferenceConfig",
    "Config",
    "DataConfig",
    "QuantizeConfig",
    "QueryConfig",
    "SplitConfig",
    "TargetConfig",
    "ToolConfig",
    "analysis_variants",
    "bits_label",
    "external_model",
    "levels_of",
    "override",
    "read_config",
    "resolved",
    "validate",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that they refuse names that do not exist

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'bitleak.config' has no attribute {name!r}")
        return getattr(importlib.import_module(_PUBLIC[name]), name)
