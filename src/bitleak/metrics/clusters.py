"""Records that depend on each other: copies, pictures of one patient, texts of one author.

All intervals take records for independent. If they come in clusters, the scores of a cluster's
records tell less than as many independent ones, and often its records are members together. With
psi_r the influence of record r on a figure (`estimates`), the figure's variance is that of the
clusters' sums (Obuchowski 1997, Biometrics 53, for ROC curves; Liang and Zeger 1986)

    psi_c = sum of psi_r over the cluster's records,    variance = sum_c psi_c^2,

the same for all targets, so that means and differences use sums of influences instead of influences.

*Unequal clusters.* A figure follows a large cluster, whose own influence is then too small. With
h_c the cluster's share of the members (or of the non-members) the leave-one-cluster-out jackknife is

    (I - 1) / I sum_c (psi_c / (1 - h_c))^2

for I clusters (Bell and McCaffrey 2002, Survey Methodology 28; exact for a mean). No quantile of
Student's is used: if one cluster dominates, the error is nearly this deviation itself, and the
interval covers more than 95 %.

*Effective numbers.* Intervals that are made from counts (Wilson's, Clopper and Pearson's, the rank of
a threshold) take the counts divided by the design effect (Kish 1965; Korn and Graubard 1998, Survey
Methodology 24),

    variance by clusters / variance by records,    at least 1,

which is the mean size of a record's cluster, sum of sizes^2 / records, if nothing was observed that
could vary. Clusters of equal copies then have the interval of the distinct records; clusters of one
record each change nothing, to the last bit.

Cost: O(records) per figure.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

Clusters = Int64[np.ndarray, "records"]
"""Number of each record's cluster, from 0 without gaps."""


class Spread(NamedTuple):
    """The variance of a figure's part that is due to one group, the members or the non-members.

    Attributes:
        variance: Variance by clusters; I / (I - 1) of it is the jackknife's.
        clusters: Clusters with a record of the group, I.
    """

    variance: float
    clusters: int

    @property
    def unbiased(self) -> float:
        """The jackknife's variance; infinite for a single cluster."""
        return self.variance * self.clusters / (self.clusters - 1) if self.clusters > 1 else np.inf


class ClusteredFigure(NamedTuple):
    """The influences of clusters on a figure, and their variance.

    Attributes:
        influence: Sum over the records of each cluster.
        members: Variance due to the members.
        non_members: Variance due to the non-members.
        covariance: Covariance of the two parts, of clusters with members and non-members.
    """

    influence: Float64[np.ndarray, "clusters"]
    members: Spread
    non_members: Spread
    covariance: float

    @property
    def variance(self) -> float:
        """Variance of the figure, in the place of the sum of the squared influences."""
        total = self.members.variance + self.non_members.variance + 2 * self.covariance
        return max(total, 0.0)

    @property
    def shared_part(self) -> float:
        """Deviation over that of independent groups, from 0.5 to 1; 1 without a covariance."""
        apart = self.members.variance + self.non_members.variance
        ratio = self.variance / apart if apart > 0 else 1.0
        return float(np.sqrt(min(max(ratio, 0.25), 1.0)))

    @property
    def unbiased(self) -> float:
        """The jackknife's variance, in the place of DeLong's; infinite if a group is one cluster."""
        count = len(self.influence)
        cross = 2 * self.covariance * count / max(count - 1, 1)
        return max(self.members.unbiased + self.non_members.unbiased + cross, 0.0)


def dense_clusters(groups: Int64[np.ndarray, "records"] | None) -> Clusters | None:
    """Return the numbers of the clusters without gaps; None if every record is its own cluster.

    Args:
        groups: Number of each record's cluster, any integers; None if all records are independent.

    Example:
        >>> dense_clusters(np.array([7, 3, 7])).tolist(), dense_clusters(np.array([7, 3, 5]))
        ([1, 0, 1], None)
    """
    if groups is None:
        return None
    names, numbers = np.unique(groups, return_inverse=True)
    return None if len(names) == len(groups) else numbers.astype(np.int64)


def cluster_sums(
    values: Float64[np.ndarray, "records"], clusters: Clusters
) -> Float64[np.ndarray, "clusters"]:
    """Return the sum of the values over each cluster."""
    return np.bincount(clusters, weights=values, minlength=int(clusters.max()) + 1)


def clustered_figure(
    influence: Float64[np.ndarray, "records"],
    member: Bool[np.ndarray, "records"],
    clusters: Clusters,
) -> ClusteredFigure:
    """Return the influences of clusters on a figure, and the figure's variance.

    Args:
        influence: Influence of every record; sums to 0 over the members and over the non-members.
        member: True for the members.
        clusters: As `dense_clusters` returns them.

    Example:
        >>> values, every = np.repeat([1.0, -1.0, 2.0, -2.0], 5) / 20, np.ones(20, bool)
        >>> by_four = clustered_figure(values, every, np.arange(20) // 5)
        >>> round(by_four.members.variance, 6), by_four.members.clusters  # 10 / 4^2
        (0.625, 4)
    """
    inside, raised_inside = _group(influence, member, clusters)
    outside, raised_outside = _group(influence, ~member, clusters)
    covariance = float(raised_inside @ raised_outside)
    sums = cluster_sums(influence, clusters)
    return ClusteredFigure(sums, inside, outside, covariance)


def design_effect(
    values: Float64[np.ndarray, "records"] | Bool[np.ndarray, "records"],
    counted: Bool[np.ndarray, "records"],
    clusters: Clusters,
) -> float:
    """Return how many records count as an independent one in the mean of the counted values.

    Args:
        values: One number or truth value per record.
        counted: The records that the mean is over; at least one.
        clusters: As `dense_clusters` returns them.

    Example:
        >>> values, every = np.repeat([0.0, 1.0, 1.0, 0.0], 5), np.ones(20, bool)
        >>> of_five, of_one = np.arange(20) // 5, np.arange(20)
        >>> [round(design_effect(values, every, clusters), 9) for clusters in (of_five, of_one)]
        [5.0, 1.0]
    """
    count = int(counted.sum())
    deviations = np.where(counted, values - values[counted].mean(), 0.0)
    alone = float((deviations**2).sum()) / count**2
    sizes = np.bincount(clusters[counted])
    mean_size = float((sizes.astype(np.float64) ** 2).sum()) / count
    if alone == 0:
        return mean_size
    spread, _ = _group(deviations / count, counted, clusters)
    return min(max(1.0, spread.variance / alone), float(count))


def effective_records(counted: Bool[np.ndarray, "records"], clusters: Clusters | None) -> float:
    """Return the number of independent records that the counted ones are worth if copies are equal.

    Example:
        >>> effective_records(np.ones(6, bool), np.array([0, 0, 0, 1, 1, 1]))
        2.0
    """
    count = int(counted.sum())
    if clusters is None or count == 0:
        return float(count)
    sizes = np.bincount(clusters[counted]).astype(np.float64)
    return count**2 / float((sizes**2).sum())


def single_records(clusters: Clusters, seed: int) -> Int64[np.ndarray, "clusters"]:
    """Return one record of each cluster, drawn at random, in ascending order.

    Args:
        clusters: As `dense_clusters` returns them.
        seed: Seed for the draw.
    """
    order = np.random.default_rng(seed).permutation(len(clusters))
    _, first = np.unique(clusters[order], return_index=True)
    return np.sort(order[first])


def _group(
    influence: Float64[np.ndarray, "records"],
    counted: Bool[np.ndarray, "records"],
    clusters: Clusters,
) -> tuple[Spread, Float64[np.ndarray, "clusters"]]:
    """Return the variance due to one group of records, and the clusters' raised influences."""
    sums = cluster_sums(np.where(counted, influence, 0.0), clusters)
    sizes = cluster_sums(counted.astype(np.float64), clusters)
    number = int((sizes > 0).sum())
    if number < 2:
        return Spread(float(sums @ sums), number), sums
    share = sizes / sizes.sum()

    # (I - 1) / I and 1 - h_c cancel for clusters of equal size
    raised = sums * (1 - 1 / number) / (1 - share)
    return Spread(float(raised @ raised), number), raised
