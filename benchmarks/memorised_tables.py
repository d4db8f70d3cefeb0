"""Networks that have learnt their members: every table of docs/memorised.md from the answers that are kept.

    python benchmarks/memorised_tables.py page       # anew, in their places in docs/memorised.md
    python benchmarks/memorised_tables.py print variants plain lira-online-shrunk tpr@0.01
    python benchmarks/memorised_tables.py figure

The answers are those of `memorised.py`, and who is attacked by whom is in `memorised_adversaries.py`.

In the page, a line `<!-- table: NAME ... -->` stands before each table, with a name of `TABLES` and what it
takes. `figure` draws who finds what with other references.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from memorised import AGAIN, BASE, FIRST, FOLDER
from memorised_adversaries import FPRS, JOINT, Adversary, Answers, by_method, default_of
from scipy import stats

from bitleak.core.types import Measure
from bitleak.core.variants import FULL
from bitleak.metrics import measure, roc

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "memorised.md", DOCS / "figures" / "memorised-cross.png"
COLUMNS = {
    FIRST: ("fp32", "recalibrated", "matched"),
    AGAIN: ("fp32", "recalibrated", "default"),
}
"""Kinds of references, for the first networks and those trained anew."""

ALIKE = ("fp32", "default", "matched")
"""Kinds of references that were trained anew as well."""

MAPPED = "fp32, recalibrated"
ATTACK = "lira-online-shrunk"
RELEASES = (
    (FULL, "rtn-4"),
    (FULL, "obc-4"),
    (FULL, "brecq-4"),
    (FULL, "obc-1.58+last8"),
    (FULL, BASE),
    ("obc-4", "obc-2", "obc-1.58+last8"),
    ("brecq-4", "brecq-2", BASE),
)
"""Releases of one model that an adversary sees together."""


def by_precision(variant: str) -> tuple[int, ...]:
    """Return the place of a variant in the figure: from many bits to few."""
    method, *rest = by_method(variant)
    return (0, method) if not rest else (1, rest[0], -method)


def accuracy_table(answers: Answers, kind: str = FIRST) -> Iterator[str]:
    """Yield the accuracies of every model."""
    yield "| model | members | non-members | test |"
    yield "|---|---|---|---|"
    for model in answers.models(FULL, kind):
        facts = answers.files[kind][model].facts[FULL]
        cells = [f"{facts[part]:.2f}" for part in ("members", "others", "test")]
        yield f"| {model} | {' | '.join(cells)} |"


def variant_table(answers: Answers, group: str, attack: str, metric: str) -> Iterator[str]:
    """Yield accuracies, and a figure by every kind of references."""
    kind = AGAIN if group == AGAIN else FIRST
    columns = COLUMNS[kind]
    heads = " | ".join(f"`{column}`" for column in columns)
    ends = f"`{columns[-1]}` less fp32" + (" | less the default" if kind == AGAIN else "")
    yield f"| variant | targets | members % | test % | {heads} | {ends} |"
    yield f"|---|---|---|---|{'---|' * (len(columns) + 1 + (kind == AGAIN))}"
    for variant in answers.group(group):
        yield variant_row(answers, variant, attack, metric, kind)


def variant_row(answers: Answers, variant: str, attack: str, metric: str, kind: str = FIRST) -> str:
    """Return the row of one variant."""
    columns, targets = COLUMNS[kind], answers.models(variant, kind)
    adversaries = answers.adversaries(variant, kind)
    found = {
        column: answers.figures(attack, adversary, targets)[metric]
        for column, adversary in adversaries.items()
    }
    cells = [str(len(targets))]
    cells += [f"{answers.mean_fact(variant, part, kind):.1f}" for part in ("members", "test")]
    cells += [cell(found[column]) if column in found else "" for column in columns]
    cells.append(change(found[columns[-1]]) if columns[-1] in found else "")
    if kind == AGAIN:
        adversary, default = adversaries.get("default"), default_of(variant)
        known = set(targets) <= set(answers.models(default, kind))
        cells.append("")
        if adversary is not None and variant != default and known:
            beside = adversary._replace(variant=default)
            cells[-1] = change(answers.figures(attack, adversary, targets, beside)[metric])
    return f"| {variant} | {' | '.join(cells)} |"


def alike_table(answers: Answers, attack: str, metric: str) -> Iterator[str]:
    """Yield a figure of networks trained anew by references that were trained anew as well.

    Each variant has the targets and references that have answered in it and by its method's default preset, in
    whole pairs.
    """
    heads = " | ".join(f"`{column}`" for column in ALIKE)
    yield (
        f"| variant | targets | references per side | {heads} | `matched` less `default` | less the default |"
    )
    yield f"|---|---|---|{'---|' * (len(ALIKE) + 2)}"
    for variant in answers.group(AGAIN):
        models = answers.pairs([variant, default_of(variant), FULL], AGAIN)
        fewest = 1 if attack.startswith("rmia") else 2
        if len(models) // 2 > fewest:
            yield alike_row(answers, variant, models, attack, metric)


def alike_row(
    answers: Answers, variant: str, models: tuple[int, ...], attack: str, metric: str
) -> str:
    """Return the row of one variant."""
    default = default_of(variant)
    by_fp32, by_default, matched = (
        Adversary(variant, references, kind=AGAIN, of=AGAIN)
        for references in (FULL, default, variant)
    )

    def figures(adversary: Adversary, beside: Adversary | None = None) -> Measure:
        return answers.figures(attack, adversary, models, beside)[metric]

    cells = [str(len(models)), str(len(models) // 2 - 1), cell(figures(by_fp32))]
    if variant == FULL:
        cells += ["", "", "", ""]
    elif variant == default:
        cells += ["", cell(figures(matched)), "", ""]
    else:
        found = figures(matched, by_default)
        of_default = by_default._replace(variant=default)
        cells += [cell(figures(by_default)), cell(found), change(found)]
        cells.append(change(figures(matched, of_default)))
    return f"| {variant} | {' | '.join(cells)} |"


def calibration_table(answers: Answers) -> Iterator[str]:
    """Yield the TPR among members in the target's calibration set, and among its other members.

    Both have the threshold of all non-members. The interval of their difference is Student's t over the
    targets, whose calibration sets were drawn independently.
    """
    yield "| variant | references | in the calibration set | other members | difference |"
    yield "|---|---|---|---|---|"
    for variant in answers.group("plain"):
        yield from calibration_rows(answers, variant)


def calibration_rows(answers: Answers, variant: str) -> Iterator[str]:
    """Yield the rows of one variant."""
    targets = answers.models(variant)
    for kind, adversary in answers.adversaries(variant).items():
        shares = []
        found = answers.scores(ATTACK, adversary, targets)
        for target, scores in zip(targets, found, strict=True):
            member, shown = answers.member[target], answers.calibration[target]
            curve = roc(scores, member)
            threshold = curve.thresholds[curve.last_point(FPRS[-1])]
            groups = (member & shown, member & ~shown)
            shares.append([(scores[group] >= threshold).mean() for group in groups])
        inside, outside = np.mean(shares, axis=0)
        apart = np.subtract(*np.transpose(shares))
        reach = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
        middle = apart.mean()
        yield (
            f"| {variant} | `{kind}` | {inside:.3f} | {outside:.3f} | "
            f"{middle:+.3f} [{middle - reach:+.3f}, {middle + reach:+.3f}] |"
        )


def crossed(answers: Answers, attack: str, metric: str, variants: list[str]) -> np.ndarray:
    """Return what references of each variant find in targets of each.

    Rows are the targets' variants. The last column has `fp32` references with the target's confidence mapped
    to theirs.
    """
    targets = tuple(range(len(answers.member)))
    return np.array(
        [
            [
                answers.figures(attack, adversary, targets)[metric].value
                for adversary in (
                    *(Adversary(variant, references) for references in variants),
                    Adversary(variant, FULL, recalibrate=variant != FULL),
                )
            ]
            for variant in variants
        ]
    )


def cross_table(answers: Answers, attack: str, metric: str) -> Iterator[str]:
    """Yield what references of one variant find in targets of another."""
    variants = answers.of_all()
    found = crossed(answers, attack, metric, variants)
    heads = " | ".join(f"by {variant}" for variant in (*variants, MAPPED))
    yield f"| target | {heads} |"
    yield f"|---|{'---|' * found.shape[1]}"
    for variant, row in zip(variants, found, strict=True):
        yield f"| {variant} | {' | '.join(f'{value:.4f}' for value in row)} |"


def others_table(answers: Answers, variant: str) -> Iterator[str]:
    """Yield what references of every variant find in targets of one, and how much less than `matched` ones."""
    targets = tuple(range(len(answers.member)))
    metric = f"tpr@{FPRS[-1]:g}"
    yield f"| references, in `{variant}` | {metric} | less `matched` |"
    yield "|---|---|---|"
    adversaries = {name: Adversary(variant, name) for name in answers.of_all() if name != variant}
    adversaries[MAPPED] = Adversary(variant, FULL, recalibrate=True)
    for name, adversary in adversaries.items():
        matched = Adversary(variant, variant)
        found = answers.figures(ATTACK, adversary, targets, matched)[metric]
        yield f"| {name} | {cell(found)} | {change(found)} |"


def joint_table(answers: Answers) -> Iterator[str]:
    """Yield what several releases tell together, and how much more than the most telling of them."""
    metrics = ("auc", f"tpr@{FPRS[-1]:g}")
    heads = [f"`{attack}`: {metric}" for attack in JOINT for metric in metrics]
    over = " | ".join(f"{head} | over the best" for head in heads)
    yield f"| releases seen | {over} |"
    yield f"|---|{'---|---|' * len(heads)}"
    of_all = answers.of_all()
    known = [releases for releases in RELEASES if set(releases) <= set(of_all)]
    singles = dict.fromkeys((release,) for releases in known for release in releases)
    for releases in (*singles, *known):
        cells = []
        for attack in JOINT:
            scores = answers.joint_scores(attack, releases)
            best = answers.joint_scores(attack, (most_telling(answers, attack, releases),))
            figures = measure(scores, answers.member, fprs=FPRS, baseline=best, balanced=False)
            for metric in metrics:
                found, digits = figures.aggregate[metric], 4 if metric == "auc" else 3
                cells += [cell(found), change(found, digits) if len(releases) > 1 else ""]
        yield f"| {', '.join(releases)} | {' | '.join(cells)} |"


def most_telling(answers: Answers, attack: str, releases: tuple[str, ...]) -> str:
    """Return the release with the highest AUC alone."""

    def area(release: str) -> float:
        scores = answers.joint_scores(attack, (release,))
        return measure(scores, answers.member, fprs=FPRS, balanced=False).aggregate["auc"].value

    return max(releases, key=area)


def figure(answers: Answers, path: Path) -> None:
    """Draw what references of one variant find in targets of another, as a share of what matched ones find."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from bitleak.report.figures.style import settings

    chance = FPRS[-1]
    variants = sorted(answers.of_all(), key=by_precision)
    found = crossed(answers, ATTACK, f"tpr@{chance:g}", variants)
    matched = np.diag(found)[:, None]
    telling = matched[:, 0] > 10 * chance
    share = 100 * (found[telling] - chance) / (matched[telling] - chance)
    rows = [name for name, kept in zip(variants, telling, strict=True) if kept]
    columns = [variants[0], MAPPED, *variants[1:]]
    share = np.insert(share[:, :-1], 1, share[:, -1], axis=1)  # beside fp32
    with plt.rc_context({**settings(), "font.size": 9, "axes.grid": False}):
        drawn, axes = plt.subplots(figsize=(8.6, 1.6 + 0.42 * len(rows)), layout="constrained")
        axes.imshow(share, cmap="Blues", vmin=82, vmax=103, aspect="auto")
        for row, column in np.ndindex(*share.shape):
            axes.text(
                column,
                row,
                f"{share[row, column]:.0f}",
                ha="center",
                va="center",
                color="white" if share[row, column] > 95 else "black",
                fontweight="bold" if columns[column] == rows[row] else "normal",
            )
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left")
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("quantization of the references")
        axes.set_ylabel("quantization of the target")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        drawn.savefig(path, dpi=140)


def cell(figure: Measure) -> str:
    """Return a figure with its interval."""
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def change(figure: Measure, digits: int = 3) -> str:
    """Return the paired difference from the baseline with its interval."""
    values = (figure.difference, figure.difference_low, figure.difference_high)
    middle, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{middle} [{low}, {high}]"


TABLES: Mapping[str, Callable[..., Iterator[str]]] = {
    "accuracies": accuracy_table,
    "variants": variant_table,
    "alike": alike_table,
    "calibration": calibration_table,
    "cross": cross_table,
    "others": others_table,
    "joint": joint_table,
}
MARK = re.compile(r"(<!-- table: (.+?) -->\n\n?)((?:\|.*\n)*)")
"""A mark, what it asks for, and the table that follows it."""


def table(answers: Answers, wanted: str) -> str:
    """Return a table by its name and what it takes, such as `cross lira-online-shrunk tpr@0.01`."""
    name, *what = wanted.split()
    return "".join(f"{line}\n" for line in TABLES[name](answers, *what))


def fill(path: Path, answers: Answers, names: Sequence[str] = tuple(TABLES)) -> None:
    """Put the tables with these names in their places in a page; it may be edited meanwhile."""
    wanted = {found[2] for found in MARK.finditer(path.read_text())}
    made = {call: table(answers, call) for call in wanted if call.split()[0] in names}

    def content(found: re.Match[str]) -> str:
        before = found[3]
        end = "" if before else "\n"  # a first table is set apart from what follows
        return found[1] + (made[found[2]] + end if found[2] in made else before)

    path.write_text(MARK.sub(content, path.read_text()).rstrip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page")
    page.add_argument("--out", type=Path, default=PAGE)
    page.add_argument("--only", nargs="+", choices=TABLES, default=tuple(TABLES))
    commands.add_parser("figure").add_argument("--out", type=Path, default=FIGURE)
    commands.add_parser("print").add_argument("wanted", nargs="+", metavar="NAME")
    options = parser.parse_args()
    answers = Answers(options.folder)
    if options.command == "page":
        fill(options.out, answers, options.only)
    elif options.command == "figure":
        figure(answers, options.out)
    else:
        print(table(answers, " ".join(options.wanted)), end="")


if __name__ == "__main__":
    main()
