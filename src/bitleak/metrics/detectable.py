"""The smallest AUC that an audit of this size would notice: what "no leak was found" may hide.

Where the scores say nothing, the AUC of one target with m members and n non-members has the mean 1/2 and, without ties,

    var_0 = (m + n + 1) / (12 m n)

(Mann and Whitney 1947; Hanley and McNeil's 1982 and DeLong's variance at 1/2 tend to it). A test at level a with
power b notices

    AUC = 1/2 + (z(1 - a / 2) + z(b)) sqrt(var_0),

the variance being taken at 1/2 under both hypotheses, right to first order: an AUC of this size is near it.
The mean over T targets has the variance var_0 (1 + (T - 1) rho) / T, rho being the mean correlation between two
targets' AUCs: 0 for independent halves of the records, whatever the records' scores have in common.
"""

import math

from scipy.special import ndtri

from bitleak.core.checks import integer_in, number_in


def detectable_auc(
    members: int,
    non_members: int,
    *,
    targets: int = 1,
    correlation: int | float = 0.0,
    level: int | float = 0.05,
    power: int | float = 0.8,
) -> float:
    """The AUC above 1/2 that the audit notices with the wanted power.

    Args:
        members: Of each target.
        non_members: Of each target.
        targets: Whose AUCs are averaged.
        correlation: Mean correlation between two targets' AUCs, in [0, 1].
        level: Of the two-sided test, in (0, 1); 0.05 is a 95 % interval that leaves out 1/2.
        power: Chance of noticing it, in (0, 1).

    Returns:
        In (0.5, 1]; 1 where no AUC is noticed with this power.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> round(detectable_auc(1000, 1000), 4), round(detectable_auc(25_000, 25_000, targets=8), 4)
        (0.5362, 0.5026)
    """
    m, n = integer_in("members", members, 1), integer_in("non_members", non_members, 1)
    count = integer_in("targets", targets, 1)
    alike = number_in("correlation", correlation, 0, 1)
    level, power = number_in("level", level, 0, 1, ends="()"), number_in("power", power, 0, 1, ends="()")
    variance = (m + n + 1) / (12 * m * n) * (1 + (count - 1) * alike) / count
    reach = float(ndtri(1 - level / 2) + ndtri(power)) * math.sqrt(variance)
    return min(1.0, 0.5 + max(reach, 0.0))


def doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`: the numbers of references that a curve of power is drawn at.

    Example:
        >>> doubling(7), doubling(2)
        ([1, 2, 4, 7], [1, 2])
    """
    counts: list[int] = []
    while 2 ** len(counts) < most:
        counts.append(2 ** len(counts))
    return [*counts, most]
