"""Facts in the pages that a machine can check: commands and options, configs, modules, files, exit codes."""

import ast
import csv
import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

from bitleak.attacks import STRENGTH, known_names, perfect_auc, perfect_tpr, player_groups
from bitleak.audit.graph import noise_tasks
from bitleak.cli import app, exit_codes
from bitleak.config import SplitConfig, resolved, validate, yaml_files
from bitleak.core import archive, footer
from bitleak.core.errors import ConfigError
from bitleak.core.limits import MOST_MODELS, MOST_QUERIES, MOST_RATES, MOST_ROUNDS, MOST_VARIANTS
from bitleak.data import decode
from bitleak.data.class_labels import LABEL_NAMES
from bitleak.engine import manifest
from bitleak.metrics import detectable_auc, headline_fpr
from bitleak.metrics.verdicts import HEADLINE_SHARE, LEVEL
from bitleak.report.memorising_target import ENOUGH
from bitleak.report.record_dependence import ENOUGH_CLUSTERS
from bitleak.report.row_files import ROWS_SCHEMA

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]  # the log names what was

each_page = pytest.mark.parametrize("page", TODAY, ids=lambda page: page.name)


def options_of_commands():
    """Options by command, such as `store verify`."""
    found = {}

    def visit(group, prefix):
        for name, command in group.commands.items():
            path = f"{prefix} {name}".strip()
            if hasattr(command, "commands"):
                visit(command, path)
            else:
                names = {"--help"}
                for parameter in command.params:
                    names.update(parameter.opts, parameter.secondary_opts)
                found[path] = names

    visit(typer.main.get_command(app), "")
    return found


COMMANDS = options_of_commands()


def text_of(page):
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def code_of(page):
    """Lines of code blocks, and code inside of sentences."""
    text = text_of(page)
    lines = []
    for block in re.findall(r"```.*?```", text, flags=re.DOTALL):
        lines += block.splitlines()
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\n", " ")
    return [*lines, *re.findall(r"`([^`]+)`", plain)]


def named_options(text):
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)


@each_page
def test_every_command_has_the_options_that_the_page_names(page):
    wrong = []
    for line in code_of(page):
        for call in re.findall(r"(?:^|[\s$(])bitleak ([a-z].*)", line):
            call = re.split(r" (?:&&|\|\||[;|]) |#", call)[0]
            words = call.split()
            command = next(
                (name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None
            )
            if command is None:
                wrong += [] if words[0] == "store" and len(words) == 1 else [call]
                continue
            wrong += [
                f"{command} {name}" for name in named_options(call) if name not in COMMANDS[command]
            ]
    assert wrong == []


@each_page
def test_an_option_without_its_command_is_one_of_some_command_or_script(page):
    known = {"--version"}.union(*COMMANDS.values())
    wrong = []
    for line in code_of(page):
        # Options of scripts are looked for in their text; other programs are not checked.
        scripts = re.findall(r"((?:benchmarks|tools)[./]\w+)", line)
        if not scripts and re.fullmatch(r"--[a-z][a-z-]*( \S+)?", line):
            near = "".join(source(script) for script in re.findall(SCRIPT, text_of(page)))
            wrong += [
                name for name in named_options(line) if name not in known and name not in near
            ]
        for script in scripts:
            wrong += [name for name in named_options(line) if name not in source(script)]
    assert wrong == []


SCRIPT = r"\b((?:benchmarks|tools)[./]\w+)"


def source(script):
    """Text of a script of the repository, named with a point or a slash."""
    path = ROOT / script.replace(".", "/", 1)
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


@each_page
def test_scripts_and_files_that_the_page_names_exist(page):
    text = text_of(page)
    wrong = [
        name for name in re.findall(SCRIPT, text) if not source(name) and name.startswith("bench")
    ]
    for name in re.findall(r"\b((?:tests|examples|tools|findings)/[\w/-]+\.\w+)", text):
        wrong += [] if (ROOT / name).exists() or "NAME" in name else [name]
    # `src/bitleak/` is left out where a page is about the package.
    wrong = [name for name in wrong if not (ROOT / "src/bitleak" / name).exists()]
    assert wrong == []


@each_page
def test_names_of_the_package_exist(page):
    wrong = []
    for name in set(re.findall(r"\bbitleak((?:\.[A-Za-z_]\w*)+)", text_of(page))):
        value = importlib.import_module("bitleak")
        for part in name.strip(".").split("."):
            if not hasattr(value, part):
                try:
                    importlib.import_module(f"{value.__name__}.{part}")
                except (ImportError, AttributeError):
                    wrong.append(f"bitleak{name}")
                    break
            value = getattr(value, part)
    assert wrong == []


SMALL = {"data": "digits", "model": {"name": "cnn", "width": 4}, "split": {"models": 16}}


@each_page
def test_configs_and_their_parts_are_accepted(page):
    wrong = []
    for block in re.findall(r"```ya?ml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        raw = yaml.safe_load(block)
        try:
            validate({**SMALL, **(raw if isinstance(raw, dict) else {"quantize": raw})})
        except ConfigError as error:
            # Names of somebody's own package cannot be imported here.
            wrong += [line for line in str(error).splitlines() if "cannot import m" not in line]
    assert wrong == []


def test_sections_that_pages_name_with_a_field_have_it():
    wrong = []
    for page in TODAY:
        for section, name in re.findall(
            r"`(split|query|train|headline)\.([a-z_]+)`", text_of(page)
        ):
            if (section, name) == ("train", "csv"):  # a file
                continue
            try:
                validate({**SMALL, section: {**SMALL.get(section, {}), name: object}})
            except ConfigError as error:
                wrong += [f"{page.name}: {error}"] if "unknown key" in str(error) else []
    assert wrong == []


def test_the_table_of_exit_codes_has_every_code():
    page = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    table = page.partition("| exit code |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    documented = {int(code) for row in rows for code in re.findall(r"\d+", row)}
    tree = ast.parse(Path(exit_codes.__file__).read_text())
    named = {
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, int)
    }
    codes = {code for code in named if code < 128} | {128 + number for number in (2, 15, 1)}
    assert documented >= codes
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= documented


def rows_of(page, head):
    """Cells of the table whose first line begins with `head`, one list per line."""
    table = text_of(ROOT / page).partition(head)[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def test_the_table_of_columns_is_that_of_results_csv_in_its_order():
    named = []
    for cells in rows_of("docs/results.md", "| column | meaning |"):
        named += re.findall(r"`([a-z_]+)`", cells[0])
    columns = list(ROWS_SCHEMA.names)
    assert sorted(named) == sorted(columns)
    assert named[:6] == columns[:6]


def test_every_attack_of_the_table_is_one_that_a_config_takes():
    known = known_names()
    for cells in rows_of("docs/results.md", "| word | name |"):
        for word in re.findall(r"`([^`]+)`", cells[0]):
            assert word in known
        for name in re.findall(r"`([a-z][^`]*)`", cells[1]):
            pattern = re.escape(name).replace(r"\.\.\.", ".+")
            assert any(re.fullmatch(pattern, entry) for entry in known), name


def test_limits_of_files_and_configs_are_those_of_the_code():
    limits = text_of(ROOT / "docs/running.md").partition("## Limits")[2]
    counts = [MOST_MODELS, MOST_VARIANTS, MOST_RATES, MOST_QUERIES, MOST_ROUNDS]
    words = ["models", "variants", "rates", "queries", "rounds of calibration"]
    for count, word in zip(counts, words, strict=True):
        assert re.search(rf"\b{count:,} {word}\b", limits), word
    side = math.isqrt(decode.MOST_PIXELS)
    assert f"{side} x {side} pixels" in limits
    assert f"{archive.ENTRIES} arrays; an entry of more than {archive.UNPACKED >> 20} MiB" in limits
    assert f"{archive.RATIO:,} times its packed bytes" in limits
    assert f"a footer of {footer.LARGEST_FOOTER >> 20} MiB" in limits
    config = f"{yaml_files.LARGEST_CONFIG >> 20} MiB, {yaml_files.DEEPEST_CONFIG} levels"
    assert f"{config}, {yaml_files.MOST_VALUES:,} values" in limits
    assert f"{manifest.LARGEST_MANIFEST >> 20} MiB, {manifest.DEEPEST_MANIFEST} levels" in limits


def test_names_of_label_columns_and_kinds_of_images_are_those_of_the_code():
    text = text_of(ROOT / "docs/data.md")
    sentence = re.search(r"the only one whose name is (.*?)\. Several", text, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", sentence)) == LABEL_NAMES
    kinds = re.search(r"\n([A-Za-z, ]+) are read, with suffixes in any case", text)[1]
    assert {kind.upper() for kind in re.findall(r"[A-Z]\w+", kinds)} == set(decode.IMAGE_FORMATS)


def test_defaults_of_the_table_of_results_are_those_of_a_config():
    config = resolved(validate(SMALL))
    for key, default, _ in rows_of("docs/results.md", "| key of the config | default |"):
        name, value = key.strip("`"), yaml.safe_load(default.strip("`"))
        assert config.get(name, "none") == value, name


def section_of(page, title):
    """Text of a section on one line, so that line breaks do not matter."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n## {title}\n")[2]
    return " ".join(text.partition("\n## ")[0].split())


def test_the_table_of_detectable_aucs_is_computed_by_the_function():
    rows = rows_of("docs/statistics.md", "| members and non-members, each |")
    assert len(rows) == 3
    for count, alone, eight, anew in rows:
        size = int(count.replace(",", ""))
        assert f"{detectable_auc(size, size):.4f}" == alone
        assert f"{detectable_auc(size, size, targets=8):.4f}" == eight
        assert f"{detectable_auc(size, size, targets=8, about='trainings'):.4f}" == anew
    # 16 versions of each of two targets, on halves of 64 candidates
    versions = detectable_auc(32, 32, targets=32, correlation=1 / 31)
    assert (
        f"`calibration_detectable_auc` includes the doubled variance: {versions:.3f}"
        in section_of("statistics.md", "Membership in the calibration set")
    )


def test_levels_of_the_headline_and_of_the_other_comparisons_are_those_of_the_page():
    text = section_of("statistics.md", "Verdicts")
    headline, others = LEVEL * HEADLINE_SHARE, LEVEL * (1 - HEADLINE_SHARE)
    assert f"at {100 * headline:.0f} %, and the others are at {100 * others:.0f} %" in text
    assert f"below {headline / 9:.4f}" in text
    smallest, together = (
        f"{level:.1e}".replace("e-0", "e-") for level in (others / 460, LEVEL / 469)
    )
    assert f"below {smallest}" in text
    assert f"would need {together}" in text


def references_per_side(models, targets):
    """Pairs of references of a target, and the fewest of any player of a group."""
    rows = np.arange(models)
    split = (rows // 2 + 1) * np.where(rows % 2, -1, 1)
    counts = []
    for group in player_groups(split, range(targets), rows.tolist(), rows.tolist(), 0):
        for player in group.players:
            left = [
                row
                for row in group.references(split, rows.tolist())
                if abs(split[row]) != abs(split[player])
            ]
            counts.append(len(left) // 2)
    return models // 2 - 1, min(counts)


def test_players_have_as_many_references_as_the_page_states():
    text, usual = section_of("statistics.md", "The strongest attack and adversary"), SplitConfig()
    of_target, of_player = references_per_side(usual.models, usual.targets)
    assert (
        f"{of_player} per side for a target's {of_target} with the defaults ({usual.models} models, "
        f"{usual.targets} targets), {references_per_side(usual.models, usual.models)[1]} if all "
        f"{usual.models} are targets"
    ) in text


def test_rules_of_controls_clusters_and_equal_accuracy_are_those_of_the_code():
    controls = section_of("statistics.md", "Two controls")
    assert f"Phi({STRENGTH:g} / sqrt 2) = {perfect_auc():.3f}" in controls
    assert f"TPR of {perfect_tpr(0.01):.3f} at 1 % FPR" in controls
    assert ENOUGH == 0.5
    assert f"half of the way from 0.5 to {perfect_auc():.3f}" in controls
    assert f"below {ENOUGH_CLUSTERS} the report states this" in section_of(
        "statistics.md", "Records that depend on each other"
    )
    utility = section_of("statistics.md", "Equal utility")
    assert (
        f"to {noise_tasks._TOLERANCE}, by bisection between {noise_tasks.LOW} and {noise_tasks.HIGH:g} "
        f"with the same draws throughout and at most {noise_tasks.EVALUATIONS} scales"
    ) in utility
    assert f"at most {noise_tasks.MATCH_RECORDS:,} of each target's own non-members" in utility


def test_the_headline_has_fewer_than_ten_false_positives_if_no_rate_has_ten():
    assert headline_fpr((0.001, 0.01), 400) == 0.01
    text = section_of("statistics.md", "A TPR at an FPR needs enough non-members")
    assert "If no listed FPR has ten, it takes the largest" in text


def test_every_kind_of_interval_is_in_the_table():
    named = set()
    for cells in rows_of("docs/intervals.md", "| `interval` | rows | quantity |"):
        named.update(re.findall(r"`(\w+)`", cells[0]))
    kinds = set()
    for file in (ROOT / "src/bitleak/metrics").glob("*.py"):
        code = file.read_text(encoding="utf-8")
        kinds.update(re.findall(r'\binterval="(\w+)"', code))
        kinds.update(re.findall(r'return Estimate\([^()]*, "(\w+)"\)', code))
    assert named == kinds


def test_the_price_of_an_accusation_is_that_of_the_rates():
    text = section_of("meaning.md", "From a rate to an accusation")
    members, others, tpr, fpr = 10_000, 990_000, 0.05, 0.01
    found, wrong = round(members * tpr), round(others * fpr)
    assert f"| members | {members:,} | {found:,} | | others | {others:,} | {wrong:,} |" in text
    assert (
        f"Of {found + wrong:,} accused, {100 * found / (found + wrong):.1f} % were members" in text
    )
    assert f"make {100 * tpr / (tpr + fpr):.0f} % of the accusations right" in text


def found_means():
    """Values of docs/findings-cifar10-small.csv, by variant, attack, reference and metric."""
    with (ROOT / "docs/findings-cifar10-small.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    keys = ("variant", "attack", "reference", "metric")
    return {tuple(line[key] for key in keys): float(line["value"]) for line in lines}


def hidden_shares(means, attack, variant):
    """Share of the fall of the AUC by `fp32` references that `matched` ones do not find, in per cent."""
    full = means["fp32", attack, "fp32", "auc"]
    naive, matched = (means[variant, attack, kind, "auc"] for kind in ("fp32", "matched"))
    return 100 * (1 - (full - matched) / (full - naive))


def test_the_summary_of_the_findings_is_that_of_their_figures():
    means, text = found_means(), section_of("findings.md", "In short")
    low = [f"{quantizer}-1.58" for quantizer in ("adaround", "brecq", "obc")]
    offline = [hidden_shares(means, "lira-offline-one_sided-shrunk", variant) for variant in low]
    adaround, brecq, obc = (f"{share:.0f}" for share in offline)
    assert f"{adaround}, {brecq} and {obc} % of the leakage" in text
    named = []
    for attack in ("lira-online-shrunk", "rmia-online"):
        named += [hidden_shares(means, attack, variant) for variant in low]
    assert f"it is {min(named):.0f} to {max(named):.0f} % at 1.58 bits" in text
    online = sorted(
        {key[1] for key in means if "online" in key[1] and key[:3] == ("fp32", key[1], "fp32")}
    )
    shares = [hidden_shares(means, attack, variant) for attack in online for variant in low]
    assert len(online) == 8
    assert f"ranges from {min(shares):.0f} to {max(shares):.0f} % at 1.58 bits" in text


def test_the_findings_call_no_difference_absent_that_a_verdict_shows():
    with (ROOT / "docs/findings-cifar10-small.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["attack"] == "strongest"]
    fine = [line for line in lines if line["variant"] in ("adaround-4", "brecq-4", "obc-4")]
    areas = [line for line in fine if line["metric"] == "auc"]
    falls = [-float(line["difference"]) for line in areas]
    assert [line["verdict"] for line in areas].count("lower") == 2
    assert {line["verdict"] for line in fine if line["metric"] == "tpr@0.01"} == {
        "not distinguishable"
    }
    text = section_of("findings.md", "In short")
    assert (
        f"AUC is lower by {min(falls):.3f} to {max(falls):.3f}, which is distinguishable for two"
        in text
    )


def test_the_range_of_attacks_in_the_findings_is_that_of_the_table():
    rates = {}
    for attack, full, *_ in rows_of("docs/findings.md", "| attack | fp32 | obc-4 |"):
        rates[attack.strip("`")] = [
            float(value) for value in re.findall(r"\d\.\d{3}", full.split("[")[0])
        ]
    del rates["strongest"]
    assert len(rates) == 25
    least = min(min(values) for values in rates.values())
    most = max(max(values) for values in rates.values())
    text = section_of("findings.md", "In short")
    assert f"ranges from {least:.3f} to {rates['threshold'][0]:.3f} (one threshold" in text
    assert f"to {most:.3f} (`calibrated-online`)" in text


def test_the_summary_of_the_null_tests_is_that_of_their_table():
    rows = rows_of("docs/attacks-measured.md", "| attack | smallest AUC |")
    least, most = min(float(row[1]) for row in rows), max(float(row[2]) for row in rows)
    for title in ("In short", "Null tests"):
        text = section_of("attacks-measured.md", title)
        assert f"all {len(rows)} attacks" in text
        assert f"between {least:.4f} and {most:.4f}" in text


def test_every_quantizer_has_a_smaller_error_than_rounding_on_the_small_networks():
    rows = rows_of("docs/quantizers-measured.md", "| network | layers, weights | accuracy |")
    assert len({row[0] for row in rows}) == 11
    for row in rows:
        rounded, *others = [float(cell.split(",")[0]) for cell in row[4:] if cell != "refused"]
        assert max(others) < rounded, row[0]


def test_the_summary_of_the_reproduction_is_that_of_its_table():
    shares, losses = {}, {}
    for row in rows_of("docs/reproduction.md", "| variant | accuracy, paper |"):
        precision = re.search(r"-(4|2|1\.58)", row[0])
        if precision and not row[0].startswith("rtn"):
            shares.setdefault(precision[1], []).append(float(row[6]))
            losses.setdefault(precision[1], []).append(-float(row[2]))
    text = section_of("reproduction.md", "In short")
    for precision, end in (
        ("4", "of full precision's"),
        ("2", "of full precision's"),
        ("1.58", "is left"),
    ):
        assert f"{min(shares[precision]):.2f} to {max(shares[precision]):.2f} {end}" in text
    assert f"falls by {min(losses['4']):.1f} to {max(losses['4']):.1f} points" in text
