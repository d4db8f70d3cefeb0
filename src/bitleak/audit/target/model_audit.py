"""The audit of one network, from Python or from a config: checks, baseline, attacks, result.

```
audit = bitleak.audit_model(network, images, labels, members, releases={"int4": int4_network})
audit.table            # a data frame
audit.summary()        # sentences
audit.report("audit")  # tables, figures and report.html
```
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bitleak.audit.target.estimator_audit import audited_estimator, estimator_maker
from bitleak.audit.target.file_releases import ReleaseFile, is_runtime_file, opened_target
from bitleak.audit.target.given_arrays import (
    check_options,
    check_plain_rows,
    check_same_order,
    check_units,
    image_array,
    label_array,
    ordered,
    per_channel,
    single_number,
    unit_note,
)
from bitleak.audit.target.given_model import (
    device_of,
    given_config,
    given_data,
    opened_store,
    task_progress,
)
from bitleak.audit.target.given_population import PopulationAudit, audited_population
from bitleak.audit.target.input_spelling import Channels, InputLayout, InputSpelling
from bitleak.audit.target.network_answers import Records, with_output_classes
from bitleak.audit.target.record_lists import Known, known_records, parted
from bitleak.audit.target.reference_networks import (
    TRAINING_SHARE,
    Make,
    ReferenceRecipe,
    checked_maker,
    fresh_copies,
)
from bitleak.audit.target.reference_tasks import answered_references, prepare_references
from bitleak.audit.target.release_rows import AttackSettings, Signals
from bitleak.audit.target.tabular_model import (
    NEXT,
    OnStep,
    tabular_records,
    takes_rows,
)
from bitleak.audit.target.target_audit import TargetAudit, TargetFacts, Tier
from bitleak.audit.target.target_run import Target, audited_target, silent
from bitleak.audit.target.tier_lines import REFERENCES, SHADOWS, TrainingWork
from bitleak.core.errors import ConfigError
from bitleak.core.leftovers import temporary_folder
from bitleak.core.variants import FULL
from bitleak.data.augmentation_names import check_queries
from bitleak.data.stored_files import StoredFiles
from bitleak.train.recipe import Recipe

CALIBRATION = 1024
"""Members that a quantizer looks at, at most."""


DEFAULT_RECIPE = Recipe(epochs=30, learning_rate=0.05, augment=())
"""How references are trained if no recipe is given."""


def audit_model(
    network: Any,
    images: Any,
    labels: Any,
    members: Any,
    *,
    others: Any = None,
    releases: Mapping[str, Any] | None = None,
    tier: int = 0,
    factory: Callable[[], Any] | None = None,
    recipe: Recipe | None = None,
    references: int = REFERENCES,
    shadows: int = SHADOWS,
    imitated: bool = False,
    store: str | Path | None = None,
    mean: Sequence[float] | int | float = 0.0,
    deviation: Sequence[float] | int | float = 1.0,
    scale: int | float = 1.0,
    channels: Channels = "rgb",
    layout: InputLayout = "upright",
    queries: Sequence[str] | str = ("identity",),
    fpr: Sequence[float] | float = (0.001, 0.01),
    order: Any = None,
    allow_separable: bool = False,
    calibration: int = CALIBRATION,
    batch: int = 64,
    seed: int = 0,
    title: str = "",
    on_step: OnStep | None = None,
) -> TargetAudit | PopulationAudit:
    """Audit one trained network: how well can its members be told from other records?

    The network is first asked about its own members; if another usual preparation of the inputs makes
    it right more often, the error proposes it. Then a guess without the network shows whether members
    and others differ by themselves, and then come the attacks.

    Args:
        network: A trained `torch.nn.Module` from inputs to logits, on any device; it is not changed.
            Anything with `predict_proba` is taken too, such as a classifier of scikit-learn, and a
            file that a runtime executes: its path, or a `ReleaseFile`.
        images: All records: arrays or tensors, `records channels height width` (or `records
            features`). 8-bit pixels are divided by 255; others are given to the network as they are.
            Rows for `predict_proba` may be a data frame.
        labels: True classes, integers from 0; for `predict_proba`, labels among its `classes_`.
        members: The records that the network was trained on: record numbers, or a truth value per
            record.
        others: The records that it was not trained on; None takes all the rest.
        releases: Further versions of the network by name: networks, state dicts, files of weights,
            files that a runtime executes (`"int8.onnx"`, or a `ReleaseFile`), and quantizers such as
            `AdaRound(levels=4)` or a `ReleaseTool`, which see some members.
        tier: 0 trains nothing; 1 trains a few references on non-members that are not evaluated; 2
            trains shadow models on random halves of the members and the evaluated others.
        factory: Returns an untrained network, or an unfitted estimator, for tiers 1 and 2; None
            makes copies of the network whose modules are reset, or `sklearn.base.clone(network)`.
        recipe: How networks are trained; None is 30 epochs without augmentation. Estimators are
            trained by their `fit`.
        references: Number of references of tier 1.
        shadows: Number of shadow models of tier 2, even.
        imitated: Whether references are then distilled towards the network's answers, on records
            that are not evaluated.
        store: Folder where trained references and their answers are kept, so that a stopped call
            goes on when it is made again; None keeps them until the end of the call.
        mean: Mean, per channel or one for all, subtracted from the scaled pixels.
        deviation: Deviation that they are divided by.
        scale: Largest value of a pixel before that: 1 or 255.
        channels: Order of the channels that the network takes, of RGB images.
        layout: `transposed` if the network takes images with height and width exchanged.
        queries: Forms of each image on which the network is evaluated, `identity` first.
        fpr: False positive rates at which the TPR is reported, in (0, 1).
        order: Place of every record in its source, or its date, for the guess without the network;
            None if the order of the arrays means nothing.
        allow_separable: Whether attacks are reported although members and others differ by
            themselves.
        calibration: Largest number of members that a quantizer sees.
        batch: Records per forward pass.
        seed: Seed of all draws.
        title: Heading of the report.
        on_step: Called with the fraction done of a stage, from 0 to 1, and the stage's name; None
            shows a bar in notebooks and nothing elsewhere.

    Returns:
        The result, with `.table`, `.summary()`, `.figure(metric, attack=...)` and `.report(path)`.

    Raises:
        ConfigError: A list of records does not fit, or the network errs on its own members as the
            inputs are prepared.
        ExecutionError: A reference could not be trained.
        ModelError: Weights do not fit, or answers are not one row of finite logits per record.
        ValueError: An argument is out of range.

    Example:
        >>> import numpy, torch
        >>> rng = numpy.random.default_rng(0)
        >>> images, labels = rng.normal(size=(400, 1, 4, 4)).astype("float32"), rng.integers(0, 2, 400)
        >>> images[:, 0, 0, 0] += 4 * labels
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        >>> with torch.no_grad():
        ...     _ = network[1].weight.zero_(), network[1].bias.copy_(torch.tensor([2.0, -2.0]))
        ...     network[1].weight[1, 0], network[1].weight[0, 0] = 1.0, -1.0
        >>> audit = audit_model(network, images, labels, members=numpy.arange(0, 400, 2))
        >>> audit.figure("auc", attack="threshold").low < 0.5  # no leak was found
        True
    """
    if tier not in (0, 1, 2):
        raise ConfigError(f"tier: expected 0, 1 or 2, got {tier!r}")
    if not isinstance(releases or {}, Mapping):
        raise ConfigError(
            f"releases: expected a mapping from names to releases, got {type(releases).__name__}"
        )
    rates, names = check_options(
        batch=batch,
        calibration=calibration,
        references=references,
        seed=seed,
        fpr=fpr,
        queries=queries,
    )
    check_same_order(
        {"images": images, "labels": labels, "members": members, "others": others, "order": order}
    )
    spelling = InputSpelling(
        per_channel("mean", mean),
        per_channel("deviation", deviation),
        single_number("scale", scale),
        channels,
        layout,
    )
    network = ReleaseFile(network) if is_runtime_file(network) else network
    tabular = None
    if not isinstance(network, ReleaseFile) and takes_rows(network, images):
        tabular = tabular_records(network, images, labels)
    show = on_step or notebook_progress()
    if tabular is not None:
        images, labels = tabular.numbers, tabular.labels
        check_plain_rows(spelling, names)
    elif not isinstance(network, nn.Module) and np.asarray(labels).dtype.kind not in "iu":
        raise ConfigError(
            "labels: expected integers from 0 for images; a classifier of rows is given "
            "images.reshape(len(images), -1), and labels as among its classes_"
        )
    records = with_output_classes(network, _records(images, labels, spelling, names, batch))
    known = known_records(members, others, records=len(records.labels))
    stored = StoredFiles()
    if order is not None:
        stored = replace(stored, order=ordered(order, len(records.labels)))
    file_facts: Mapping[str, Any] = {}
    given, models, name = network, dict(releases or {}), type(network).__name__
    notes = (*_order_note(order, known), *unit_note(spelling, records.images))
    if isinstance(network, ReleaseFile):
        name = Path(network.path).name
        opened = opened_target(network, records, "network")
        network, records, file_facts = opened.network, opened.records, opened.facts
        notes = (*notes, *opened.notes)
    if tabular is not None:
        records = replace(records, classes=len(tabular.class_values))
        targets, sentences = tabular.with_answers({FULL: network}, known, show)
        models, more_sentences = tabular.with_answers(models, known, show)
        network, notes = targets[FULL], (*notes, *sentences, *more_sentences)
    plan = ReferenceRecipe(
        shadows if tier == 2 else references,
        None if tabular is not None else recipe or DEFAULT_RECIPE,
        imitated,
    )
    target = Target(
        model=network,
        releases=models,
        records=records,
        parts=parted(known, seed, training=TRAINING_SHARE if tier == 1 else 0.0),
        stored=stored,
        class_names=() if tabular is None else tabular.class_names,
        settings=AttackSettings(fprs=rates, seed=seed),
        allow_separable=allow_separable,
        calibration=calibration,
        facts=TargetFacts(
            title=title or f"{name}, tier {tier}",
            dataset="the given records",
            network=name,
            parameters=_parameters(given),
            classes=records.classes,
            notes=notes,
            members=0,
            non_members=0,
            population=0,
            queries=len(records.queries),
        ),
        work=TrainingWork(
            DEFAULT_RECIPE.epochs if recipe is None else recipe.epochs,
            references,
            shadows,
            known=recipe is not None,
        ),
        plan=plan,
        tier=_tier(tier),
        file_facts=file_facts,
    )
    if tier == 0:
        audit = audited_target(target, show)
        # Networks alone have a forecast of the next tier's hours.
        return audit if tabular is None else with_next_line(audit, NEXT)
    if tabular is not None:
        if imitated:
            raise ConfigError("imitated: only networks can be distilled; leave it out")
        return audited_estimator(
            target, tabular, estimator_maker(given, factory), store=store, on_step=show
        )
    make = network_maker(given, factory, tier)
    if tier == 2:
        return audited_population(
            target, known, make, plan.recipe or DEFAULT_RECIPE, store=store, on_step=show
        )
    return _with_references(target, make, plan.recipe or DEFAULT_RECIPE, store, show)


def network_maker(network: Any, factory: Callable[[], Any] | None, tier: int) -> Make:
    """Return a function that makes untrained networks.

    Args:
        network: The target.
        factory: The caller's, or None.
        tier: For the message.

    Raises:
        ConfigError: There is no way to make a fresh network.
    """
    made = fresh_copies(network) if factory is None else checked_maker(factory)
    if made is None:
        raise ConfigError(
            f"tier {tier}: untrained networks are needed, and {type(network).__name__} cannot be reset; "
            "pass factory=, a function that returns an untrained network"
        )
    return made


def with_next_line(audit: TargetAudit, line: str) -> TargetAudit:
    """Return the audit with another line on the next tier."""
    return replace(audit, facts=replace(audit.facts, lead=(*audit.facts.lead[:1], line)))


def _with_references(
    target: Target, make: Make, recipe: Recipe, store: str | Path | None, on_step: OnStep
) -> TargetAudit:
    """Return the audit of a network in tier 1; its references are tasks of a store."""

    def answers() -> Mapping[str, Sequence[Signals]]:
        data = given_data(target.records)
        config = given_config(
            data,
            make,
            recipe,
            fprs=target.settings.fprs,
            seed=target.settings.seed,
            sections={},
        )
        with opened_store(store) as opened, temporary_folder() as scratch:
            work = prepare_references(
                config, target, scratch, device=device_of(target.model), given=data.records
            )
            progress = task_progress(on_step, "references")
            return answered_references(work, target, opened, executor="serial", on_event=progress)

    return audited_target(target, on_step, references=answers)


def notebook_progress() -> OnStep:
    """Return a progress line for a notebook; outside of one, nothing is shown."""
    try:
        from IPython import get_ipython
        from IPython.display import display

        if get_ipython() is None:
            return silent
    except ImportError:
        return silent
    shown = display("", display_id=True)

    def show(done: float, stage: str) -> None:
        if shown is not None:
            shown.update(f"{stage}: {100 * done:.0f} %")

    return show


def _records(
    images: Any,
    labels: Any,
    spelling: InputSpelling,
    queries: tuple[str, ...],
    batch: int,
) -> Records:
    """Return the records; refuse shapes and types that no network could take.

    Raises:
        ConfigError: They are wrong.
    """
    values = image_array(images)
    numbers = label_array(labels, len(values))
    try:
        spelling.check_channels(values.shape[1])
        check_queries(queries, values.shape[-1] if values.ndim == 4 else None)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    check_units(spelling, values)
    return Records(values, numbers, max(2, int(numbers.max()) + 1), spelling, queries, batch)


def _parameters(network: Any) -> int:
    if not isinstance(network, nn.Module):
        return 0
    return sum(tensor.numel() for tensor in network.parameters())


def _tier(tier: int) -> Tier:
    return 2 if tier == 2 else 1 if tier == 1 else 0


def _order_note(order: Any, known: Known) -> tuple[str, ...]:
    """Return a note if all members come before all others, or after them, and no order is given."""
    first, last = known.members.min(), known.members.max()
    is_one_block = last < known.others.min() or first > known.others.max()
    if order is not None or not is_one_block:
        return ()
    return (
        "Members and others are two blocks of the arrays. If the order is that of their collection, pass "
        "order=, so that the baseline sees it.",
    )
