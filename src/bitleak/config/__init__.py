"""From YAML to checked plain data.

A section is a frozen dataclass that the code itself uses: its fields are the keys of the file,
their types are checked by pydantic, and the dataclass checks their ranges. A quantizer's entry is
the quantizer's dataclass plus `name`, `levels` (or `bits`), `preset`, `calibration` and `label`.
An entry `tool` is a `ToolConfig` plus `name`, `calibration` and `label`.
"""

from bitleak.config.analyses import analysis_variants
from bitleak.config.schema import (
    CalibrationConfig,
    CalibrationInferenceConfig,
    Config,
    DataConfig,
    QuantizeConfig,
    QueryConfig,
    SplitConfig,
    ToolConfig,
    bits_label,
    levels_of,
)
from bitleak.config.target_section import TargetConfig
from bitleak.config.validation import external_model, resolved, validate
from bitleak.config.yaml_files import override, read_config

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
