"""The adapters between stored artifacts and pure functions: nothing is computed here.

A stage is called with the parameters of one or more tasks that share their inputs, and yields one
artifact mapping per task, in order. `inputs` arrive decoded. What a stage means is versioned in
`bitleak.plan.VERSIONS`. A worker finds a stage here, by its name.
"""

from bitleak.stages.attacking import applicable, attack, view_of
from bitleak.stages.calibrating import calibration, candidates
from bitleak.stages.measuring import measure, utility, weigh
from bitleak.stages.networks import calibration_images, quantize, query, specification, train
from bitleak.stages.noising import match, matched, noise
from bitleak.stages.records import copies, images, splits
from bitleak.stages.several import compare, joint
from bitleak.stages.statistics import estimate, memorise, power, thresholds

__all__ = [
    "applicable",
    "attack",
    "calibration",
    "calibration_images",
    "candidates",
    "compare",
    "copies",
    "estimate",
    "images",
    "joint",
    "match",
    "matched",
    "measure",
    "memorise",
    "noise",
    "power",
    "quantize",
    "query",
    "specification",
    "splits",
    "thresholds",
    "train",
    "utility",
    "view_of",
    "weigh",
]
