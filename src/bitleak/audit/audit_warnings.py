"""Reasons to doubt the figures of an audit: copies, models that learnt nothing, code newer than results."""

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bitleak.audit.preparation import Prepared
from bitleak.core.outside import is_outside, versioned
from bitleak.engine.store import Store
from bitleak.models.origin import origin
from bitleak.report.format import count, listed

_EFFECT = (
    "a record with a copy on the other side is called a non-member although its content was trained on, so that "
    "leakage looks smaller than it is"
)
_INTERVALS = (
    ", and intervals are too narrow; remove copies from the data set, or write `clusters: copies`"
)


def copy_warnings(
    counts: Mapping[str, int | float], *, records: int, held_out: int, clustered: bool = False
) -> tuple[str, ...]:
    """Return a sentence for each way in which copies change the figures.

    Args:
        counts: `exact`, `near`, `held_out`, `contradicting` and `distance`, as in
            `bitleak.data.image_copies.Copies`.
        records: Number of audited records.
        held_out: Number of held-out records.
        clustered: Whether intervals count clusters of records.

    Example:
        >>> counts = {"exact": 2, "near": 0, "held_out": 1, "contradicting": 0, "distance": 0.2}
        >>> copy_warnings(counts, records=100, held_out=50)[1]
        '1 of 50 held-out records is a copy of an audited one (exact or near), so that test accuracy is too high.'
    """
    exact, near = int(counts["exact"]), int(counts["near"])
    outside, contradicting = int(counts["held_out"]), int(counts["contradicting"])
    sentences = []
    if exact or near:
        kinds = [f"{exact:,} have an exact copy among the others"] if exact else []
        if near:
            kinds.append(
                f"{near:,} a near copy (standardised pixels at most {counts['distance']:.2f} apart)"
            )
        sentences.append(
            f"Of {count(records, 'audited record')} {' and '.join(kinds)}: "
            f"{_EFFECT}{'' if clustered else _INTERVALS}."
        )
    if outside:
        # Rows of a table are compared for equality alone, and have no distance.
        kind = " (exact or near)" if counts["distance"] else ""
        are = "is a copy of an audited one" if outside == 1 else "are copies of audited ones"
        sentences.append(
            f"{outside:,} of {count(held_out, 'held-out record')} {are}{kind}, "
            "so that test accuracy is too high."
        )
    if contradicting:
        sentences.append(
            f"{count(contradicting, 'audited record')} have an exact copy with another label."
        )
    return tuple(sentences)


def untrained_warnings(
    accuracies: Mapping[str, float], *, members: int, images: Sequence[int]
) -> tuple[str, ...]:
    """Return a sentence on targets that learnt nothing, whose leakage says nothing about others.

    Args:
        accuracies: Accuracy of each target at full precision on its own members, by its name.
        members: Members of a target.
        images: Images of each class.

    Example:
        >>> untrained_warnings({"0": 0.99, "2": 0.11}, members=1000, images=[50] * 10)
        ('Target 2 is right on 11 % of its own members, at most, and one answer for all images on 10 %: ...',)
    """
    # One answer for all images is right on the largest class: 2 standard errors above it is chance.
    if not images or not sum(images):
        return ()
    chance = max(images) / sum(images)
    most = chance + 2 * (chance * (1 - chance) / members) ** 0.5
    names = [name for name, accuracy in accuracies.items() if accuracy <= most]
    if not names:
        return ()
    largest = max(accuracies[name] for name in names)
    subject = f"Target {names[0]} is" if len(names) == 1 else f"Targets {listed(names)} are"
    own = "its own members" if len(names) == 1 else "their own members"
    return (
        f"{subject} right on {100 * largest:.0f} % of {own}, at most, and one answer for all images on "
        f"{100 * chance:.0f} %: training did not get anywhere (learning rate, epochs, no norms?), and nothing follows "
        "for the leakage of a trained network.",
    )


class _Code(NamedTuple):
    """Code from outside that results depend on.

    Attributes:
        section: Section of the config that names it.
        name: As the config names it, without a version.
        stages: Stages of the results.
        results: What they are, for the message.
        remedy: How the config states another version.
    """

    section: str
    name: str
    stages: tuple[str, ...]
    results: str
    remedy: str


def newer_code(prepared: Prepared, store: Store) -> tuple[str, ...]:
    """Return a warning for each piece of outside code that is newer than its results, by section.

    A key holds the version of the distribution that the code comes from, the factory's options and
    `model.version`, or the version after `@`. Code that no distribution holds (a local file, an editable
    install) and that has no version is not part of the keys. So the times of its files are compared with
    those of the results that the plan would take from the store.

    Args:
        prepared: The audit.
        store: The store of its results.
    """
    return tuple(filter(None, (_newer(prepared, store, code) for code in _codes(prepared))))


def _codes(prepared: Prepared) -> list[_Code]:
    """Return the outside code of a config that has no version."""
    config, found = prepared.config, []
    name, options = config.model
    if name == "external" and not options.get("version"):
        remedy = (
            "If the change makes another network, set model.version (such as "
            'version: "2"): it is a part of the keys'
        )
        found.append(_Code("model", str(options["factory"]), ("train",), "trained models", remedy))
    entries: list[tuple[str, str, tuple[str, ...], str]] = [
        ("quantize", entry.name, ("quantize",), "quantized models") for entry in config.quantize
    ]
    entries += [("attacks", name, ("attack", "play"), "attacks' scores") for name in config.attacks]
    entries += [("metrics", name, ("measure",), "figures") for name in config.metrics]
    for section, entry, stages, results in dict.fromkeys(entries):
        if is_outside(entry) and "@" not in entry:
            remedy = f"If the change makes other results, write {entry}@2: the version is a part of the keys"
            found.append(_Code(section, entry, stages, results, remedy))
    return found


def _newer(prepared: Prepared, store: Store, code: _Code) -> str:
    made_from = origin(code.name)
    tasks = [
        task
        for task in prepared.plan.tasks
        if task.stage in code.stages
        and (code.section == "model" or versioned(code.name) in repr(task.params))
    ]
    made = [_seconds(manifest.get("created")) for manifest in store.manifests(tasks).values()]
    before = [seconds for seconds in made if seconds < int(made_from.changed)]
    if not before:
        return ""
    newest = max(
        (path for path in made_from.files if path.exists()), key=lambda path: path.stat().st_mtime
    )
    changed = datetime.datetime.fromtimestamp(made_from.changed, datetime.UTC).isoformat(
        sep=" ", timespec="minutes"
    )
    return (
        f"{code.section}: {newest.name} was changed on {changed[:16]} UTC, after {len(before)} of the {code.results} "
        f"in the store were made, which are used as they are. {code.remedy}."
    )


def _seconds(created: object) -> float:
    """Return a manifest's time in seconds since 1970; infinity if it holds none."""
    try:
        return datetime.datetime.fromisoformat(str(created)).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("inf")
