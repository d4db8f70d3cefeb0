"""The references of tier 1 as tasks of a store: planned, run by an executor, and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.audit import Prepared, run_prepared
from bitleak.audit.exposed_records import decoded_result
from bitleak.audit.graph import (
    MatchedQuantizer,
    PlannedReferences,
    ReferencePlan,
    plan_references,
)
from bitleak.audit.preparation import (
    check_quantizers,
    dataset_of,
    resolve_device,
    sized_network,
    spec_for,
)
from bitleak.audit.target.file_releases import ReleaseFile, ReleaseTool
from bitleak.audit.target.network_answers import Records, answered_signals, logits_of
from bitleak.audit.target.reference_networks import drawn_records
from bitleak.audit.target.release_models import (
    is_quantizer,
    quantized_copy,
    quantizer_place,
)
from bitleak.audit.target.release_rows import Signals
from bitleak.audit.target.target_run import Target, silent
from bitleak.config import Config
from bitleak.core.errors import ExecutionError
from bitleak.core.outside import versioned
from bitleak.core.params import params_of
from bitleak.core.seeds import seed_for
from bitleak.core.types import Outputs, Splits
from bitleak.engine.execution import Event, Report
from bitleak.engine.keys import plain
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime, ignore
from bitleak.models import load
from bitleak.steps.assign_members import packed
from bitleak.steps.assign_references import AssignReferences
from bitleak.steps.load_target import digest_of
from bitleak.steps.orient_images import OrientImages
from bitleak.steps.read_answers_file import ReadAnswersFile
from bitleak.train.fit import settled

_ANSWERS = "answers-of-the-target.npy"
"""Name of the file with the target's answers to the training part."""


@dataclass(frozen=True)
class PreparedReferences:
    """The references of a target, before any is trained.

    Attributes:
        prepared: As the engine runs it.
        graph: The tasks by the release that they are about.
        records: The records as the references take them.
        sources: Tools, and quantizers that no task can name, by the release that they made.
    """

    prepared: Prepared
    graph: ReferencePlan
    records: Records
    sources: Mapping[str, Any]


class UnfinishedReferences(ExecutionError):
    """References failed, or there was no time for them.

    Attributes:
        prepared: The tasks.
        report: The end of the run.
    """

    def __init__(self, prepared: Prepared, report: Report) -> None:
        failed = "; ".join(outcome.text for outcome in report.failed[:1])
        text = failed or f"{len(report.left)} tasks are left; the same call goes on from here"
        super().__init__(f"tier 1: references: {text}")
        self.prepared, self.report = prepared, report


def prepare_references(
    config: Config,
    target: Target,
    folder: Path,
    *,
    data: Path | None = None,
    device: str = "auto",
    given: Records | None = None,
) -> PreparedReferences:
    """Return the plan of a target's references.

    Args:
        config: A validated config: data, network, recipe and target.
        target: The config's target, read.
        folder: For the target's answers, which imitated references learn from; it must be there
            until the tasks are done.
        data: Local folder or file that overrides the config's data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        given: The records as the references take them; None is as the target takes them.

    Raises:
        ConfigError: The network does not fit the data.
    """
    # The recipe of the target if it is known, else the config's; quantizers come from the releases.
    device = resolve_device(device)
    recipe = target.plan.recipe or config.train
    config = replace(config, train=settled(recipe, device), quantize=())
    description = dataset_of(config).describe(data)
    size, notes = sized_network(config, description)
    # Releases that references can be quantized as, each checked against the network.
    matched = _matched(target, drawn_records(len(target.parts.members), len(target.parts.training)))
    quantizers = {f"{target.where}releases.{name}": target.releases[name] for name in matched}
    check_quantizers(quantizers, spec_for(config, description))
    # References take the records as the target does, unless they are given in another form.
    parts, records = target.parts, target.records
    count = len(records.labels)
    drawn = drawn_records(len(parts.members), len(parts.training))
    asked = given or records
    spelling, channels = asked.spelling, description.channels
    mean, std = spelling.unit_statistics
    files: dict[str, str] = {}
    # References may be trained on the target's answers, which the tasks read from a file.
    imitated = None
    if target.plan.imitated:
        imitated, path = _answers_file(target, folder)
        files[imitated.digest] = str(path)
    # The plan: which records each reference is trained on, and their form.
    turned = (spelling.channels, spelling.layout) != ("rgb", "upright")
    references = PlannedReferences(
        assign=AssignReferences(
            records=count,
            members=packed(parts.members, count),
            evaluated=packed(parts.evaluated, count),
            training=packed(parts.training, count),
            population=packed(parts.population, count),
            references=target.plan.count,
            drawn=drawn,
            seed=config.seed,
        ),
        orient=OrientImages(spelling.channels, spelling.layout) if turned else None,
        imitated=imitated,
        matched=matched,
        mean=mean if len(mean) == channels else mean * channels,
        std=std if len(std) == channels else std * channels,
    )
    graph = plan_references(config, description, size, references, device=device)
    runtime = Runtime(
        device=device,
        data=None if data is None else str(data),
        path=config.data.options.get("path"),
        network=config.model,
        files=files,
    )
    prepared = Prepared(config, description, size, graph.plan, runtime, notes)
    return PreparedReferences(prepared, graph, asked, _sources(target, matched))


def answered_references(
    work: PreparedReferences,
    target: Target,
    store: Store,
    *,
    executor: str = "processes",
    workers: int | None = None,
    memory: int | None = None,
    budget: float | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> Mapping[str, Sequence[Signals]]:
    """Train the references, or as many of them as are not in the store, and return their answers.

    Args:
        work: The plan.
        target: The target that it was made for.
        store: Store of finished tasks.
        executor: Name of an executor.
        workers: Number of processes.
        memory: Bytes that they may use together.
        budget: Seconds.
        on_event: Called with the engine's events.

    Returns:
        Answers by the release that the references are quantized as; empty text for full precision.

    Raises:
        UnfinishedReferences: A task failed, or there was no time for it.
    """
    answers: dict[str, list[Signals]] = {}

    def read() -> None:
        splits: Splits = decoded_result(store, work.graph.splits)
        # References answered the training part too; attacks see the evaluated records alone.
        evaluated = np.isin(splits.pool, target.parts.pool)
        for release, tasks in work.graph.answers.items():
            answers[release] = []
            for task in tasks:
                outputs: Outputs = decoded_result(store, task)
                signals = np.ascontiguousarray(outputs.signals[evaluated])
                answers[release].append(Signals(signals, np.array(outputs.population_signals)))

        for release, source in work.sources.items():
            answers[release] = _by_source(work, target, store, splits, source)

    report = run_prepared(
        work.prepared,
        store,
        read,
        executor=executor,
        workers=workers,
        memory=memory,
        budget=budget,
        on_event=on_event,
    )
    if report.failed or report.left:
        raise UnfinishedReferences(work.prepared, report)
    return answers


def _by_source(
    work: PreparedReferences, target: Target, store: Store, splits: Splits, source: Any
) -> list[Signals]:
    """Quantize every reference as a release was made that is no task, and return the answers."""
    pool, population = target.parts.pool, target.parts.population
    answers = []
    for index, task in enumerate(work.graph.weights):
        network = load(decoded_result(store, task), allow_external=True)
        drawn = splits.pool[splits.member[1 + index]][: target.calibration]
        seed = seed_for(target.settings.seed, "reference quantizing", index)
        quantized, _ = quantized_copy(network, source, work.records, drawn, seed)
        signals = answered_signals(
            quantized, work.records, np.concatenate([pool, population]), silent, ""
        )
        answers.append(Signals(signals[: len(pool)], signals[len(pool) :]))
    return answers


def _sources(target: Target, matched: Mapping[str, Any]) -> dict[str, Any]:
    """Return tools, and quantizers that no task can name, by the release that they made."""
    sources: dict[str, Any] = {}
    for name, value in target.releases.items():
        source = value.source if isinstance(value, ReleaseFile) else value
        if isinstance(source, ReleaseTool) or (is_quantizer(value) and name not in matched):
            sources[name] = source
    return sources


def _answers_file(target: Target, folder: Path) -> tuple[ReadAnswersFile, Path]:
    """Write the target's answers to the training part into a file, and return the step that reads it."""
    logits = logits_of(target.model, target.records, target.parts.training).astype(np.float32)
    path = folder / _ANSWERS
    np.save(path, logits)
    return ReadAnswersFile(digest_of(path), *map(int, logits.shape)), path


def _matched(target: Target, drawn: int) -> dict[str, MatchedQuantizer]:
    """Return the quantizers that made releases, by the name of the release."""
    matched: dict[str, MatchedQuantizer] = {}
    for name, value in target.releases.items():
        place = quantizer_place(value)
        if place is None:
            continue
        options = {key: option for key, option in params_of(value).items() if key != "levels"}
        records = min(target.calibration, drawn)
        matched[name] = MatchedQuantizer(
            versioned(place), plain(options), int(value.levels), records
        )
    return matched
