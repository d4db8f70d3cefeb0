import base64
import hashlib
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure
from bitleak.core.variants import SIGNS
from bitleak.metrics import detectable_auc
from bitleak.report import plain_answer, tabulate, write_all, write_report, write_summary
from bitleak.report.limit_grid import limit_grid
from bitleak.report.page import inlined, page
from bitleak.report.page_data import LETTERS

NASTY = "<script>alert(1)</script>\"'&lt;{{ 7*7 }}{% raw %}--></style>$\\frac{"


class Elements(HTMLParser):
    """Counts tags and collects ids, links and text; checks that what is opened is closed."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, content):
        super().__init__()
        self.tags, self.ids, self.links, self.words, self.open = Counter(), [], [], [], []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags[tag] += 1
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [
            value for name, value in attributes if name in ("src", "href", "xlink:href", "data")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


SCRIPTS = 5
"""The data, Vega, Vega-Lite, its interpreter and the page's own script."""


def markup(document):
    """The page without its scripts."""
    return re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)


@pytest.fixture(scope="session")
def document(folder):
    return (folder / "report.html").read_text()


def test_the_page_is_well_formed_and_needs_no_network(document):
    elements = Elements(document)
    assert elements.open == []
    assert elements.tags["svg"] == 3
    assert elements.tags["script"] == SCRIPTS
    assert elements.tags["link"] == elements.tags["img"] == 0
    assert elements.links
    assert all(link.startswith("#") for link in elements.links)
    assert "@import" not in markup(document)
    assert not re.search(r"url\((?!#)", markup(document))


def test_the_page_allows_its_own_scripts_alone_and_forbids_requests(document):
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', document)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    allowed = rules.pop("script-src").split()
    hashes = []
    for content in re.findall(r"<script>(.*?)</script>", document, flags=re.DOTALL):
        digest = hashlib.sha256(content.encode()).digest()
        hashes.append(f"'sha256-{base64.b64encode(digest).decode()}'")
    assert len(hashes) == SCRIPTS - 1
    assert allowed == hashes
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_id_is_unique_and_every_reference_has_one(document):
    elements = Elements(document)
    assert [name for name, count in Counter(elements.ids).items() if count > 1] == []
    referred = re.findall(r"url\(#([^)]*)\)", markup(document))
    wanted = {link[1:] for link in elements.links} | set(referred)
    assert wanted <= set(elements.ids)


def test_the_figures_of_the_table_are_on_the_page(document, rows, summary):
    table = tabulate(rows)
    for variant in table.quantized:
        for reference in ("fp32", "recalibrated", "matched"):
            measure = table.find(variant, "tpr@0.01", summary.headline_attack, reference)
            cell = f"<td>{measure.value:.3f}<small>[{measure.low:.3f}, {measure.high:.3f}]</small></td>"
            assert cell in document


def test_the_page_says_what_a_report_must_say(document):
    words = re.sub(r"\s+", " ", " ".join(Elements(markup(document)).words))
    for sentence in (
        "A measured leakage is a lower bound",
        "last ROC point whose FPR does not exceed it",
        "2,000 non-members per target, so 1 % FPR is 20 of them",
        "Negative control (targets whose answers are noise): AUC 0.",
        "few steps; accuracy is below what the quantizer can do",
        "which was named before anything was measured",
        "Threat model",
        "512 members of the model",
        "0.5090, in four of five audits of this size",
    ):
        assert sentence in words
    assert not re.search(r"\b(private|safe|secure)\b", words, re.IGNORECASE)


@pytest.mark.parametrize(("ends", "warned"), [((0.48, 0.52), False), ((0.55, 0.6), True)])
def test_a_control_off_chance_is_a_warning(make, ends, warned):
    rows = make.rows(control=ends)
    assert ('role="alert"' in page(tabulate(rows), make.summary(rows), [])) is warned


def test_nasty_names_are_shown_as_text(make, tmp_path):
    rows = make.rows(names=(f"{NASTY}-2", NASTY, NASTY))
    write_all(
        rows,
        [],
        make.summary(rows, title=NASTY, dataset=NASTY, machine=NASTY, presets=(NASTY,)),
        tmp_path,
    )
    elements = Elements((tmp_path / "report.html").read_text())
    assert elements.tags["script"] == SCRIPTS
    assert elements.open == []
    assert " ".join(elements.words).count(NASTY) >= 6


def tags_of_a_page(make, name):
    label = name.translate(
        {ord(sign): "+" for sign in SIGNS}
    )  # which mean something in a variant's name
    rows = make.rows(names=(f"{label}x-2", "rtn", label))
    summary = make.summary(rows, title=name, network=name, versions={name: name}, seeds={name: 3})
    return Elements(page(tabulate(rows), summary, [])).tags


@settings(max_examples=10, deadline=None)
@given(name=st.text(min_size=1, max_size=30))
@example("&")
@example("a@b:c")
@example("<b>")
def test_any_text_leaves_the_page_well_formed(make, name):
    assert tags_of_a_page(make, name) == tags_of_a_page(make, "plain")


def test_inlined_figures_follow_the_page_in_the_dark(folder):
    content = inlined((folder / "figures" / "roc.svg").read_bytes(), "roc")
    assert content.startswith("<svg")
    assert "var(--ink)" in content
    assert "fill: #ffffff" not in content


def test_a_report_is_made_again_with_the_same_bytes(folder, document, tmp_path):
    for name in ("results.parquet", "roc.parquet", "summary.json"):
        shutil.copy(folder / name, tmp_path)
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == document
    for path in (folder / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()
    assert b"<dc:date" not in (folder / "figures" / "roc.svg").read_bytes()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in files if ".tmp" in name} == set()
    assert {
        f"figures/{name}.{form}" for name in ("tradeoff", "roc", "bars") for form in ("svg", "png")
    } < files


def test_a_summary_of_another_audit_is_refused(folder, make, tmp_path):
    for name in ("results.parquet", "roc.parquet"):
        shutil.copy(folder / name, tmp_path)
    write_summary(make.summary(make.rows(names=("rtn-2", "rtn", "other"))), tmp_path)
    with pytest.raises(StoreError, match=r"summary\.json: the headline is attack 'other'"):
        write_report(tmp_path)


def test_dedicated_audits_and_single_attacks_have_pages(make):
    rows = make.rows(names=("rtn-2", "rtn", "threshold"))
    content = page(tabulate(rows), make.summary(rows, mode="dedicated", targets=1, presets=()), [])
    assert "independent random halves" in content
    assert "1 target," in content


@pytest.mark.parametrize(
    ("mode", "targets", "subject"),
    [
        (
            "population",
            8,
            "They are about these models on other records; another training could differ by more.",
        ),
        (
            "dedicated",
            2,
            "about these models on other records. 2 dedicated targets cannot show how much",
        ),
        ("dedicated", 8, "are about models trained anew with the same recipe, on other records"),
    ],
)
def test_a_page_says_what_its_intervals_are_about(make, mode, targets, subject):
    rows = make.rows()
    content = page(tabulate(rows), make.summary(rows, mode=mode, targets=targets), [])
    assert subject in content
    assert ("models trained anew" in content) == (mode == "dedicated" and targets == 8)
    about = "trainings" if subject.startswith("are about models trained anew") else "records"
    summary = make.summary(rows)
    area = detectable_auc(summary.members, summary.non_members, targets=targets, about=about)
    assert f"<dt>Smallest AUC noticed</dt><dd>{area:.4f}, in four of five" in content


def test_fprs_that_take_more_non_members_are_told_with_the_number(make):
    rows = make.rows()
    content = page(tabulate(rows), make.summary(rows, fprs=(1e-5, 0.01)), [])
    assert "Not measured: an FPR of 1e-05 needs at least 100,000 non-members, got 2,000." in content
    assert "Not measured" not in page(tabulate(rows), make.summary(rows), [])


def test_an_audit_without_any_tpr_has_a_report(make, tmp_path):
    rows = [row for row in make.rows() if not row.metric.startswith("tpr")]
    write_all(
        rows,
        [],
        make.summary(rows, fprs=(1e-5,), headline_fpr=1e-5, expected_false_positives=0.02),
        tmp_path,
    )
    assert "an FPR of 1e-05 needs" in (tmp_path / "report.html").read_text()


def test_a_metric_that_the_config_adds_has_a_column(make):
    rows = make.rows()
    added = [
        replace(row, metric="advantage", measure=Measure(0.123))
        for row in rows
        if row.metric == "auc"
    ]
    content = page(tabulate([*rows, *added]), make.summary(rows), [])
    assert '<th scope="col">advantage</th>' in content
    assert content.count("<td>0.123</td>") == len(added)
    assert '<th scope="col">advantage</th>' not in page(tabulate(rows), make.summary(rows), [])


def test_the_first_screen_answers_in_plain_words_before_any_evidence(document, rows, summary):
    first = markup(document).partition('<div class="fold">')[0]
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", first)).replace("&#39;", "'")
    for sentence in plain_answer(tabulate(rows), summary):
        assert sentence in words
    for question in (
        "Which precision may be released?",
        "How sure is this?",
        "What was not tried?",
    ):
        assert question in words
    assert (
        "TPR" not in first[first.index('<div class="answer">') : first.index('<div class="first">')]
    )


def test_without_scripts_the_page_shows_the_outcomes_at_the_first_limits(document, rows, summary):
    grid = limit_grid(tabulate(rows), summary)
    loss, leakage = grid.first
    places = grid.decisions[loss][leakage]
    for outcome, letter in LETTERS.items():
        [line] = re.findall(rf'<li id="outcome-{letter}".*?</li>', document)
        names = re.findall(r'class="variant">([^<]*)', line)
        expected = [
            n for n, place in zip(grid.variants, places, strict=True) if place.outcome == outcome
        ]
        assert sorted(names) == sorted(expected)


def test_what_was_not_tried_is_named(make):
    rows = make.rows()
    content = page(tabulate(rows), make.summary(rows), [])
    assert "Attacks of bitleak that were not run: calibrated, gap, population, quantile" in content
    assert "An adversary who quantizes reference models as the target is" in content
    assert "Adversaries who hold the weights" in content


def test_the_page_of_40_variants_is_under_4_megabytes(make):
    rows = make.rows()
    many = [row for row in rows if row.variant != "rtn-2"]
    for number in range(40):
        many += [replace(row, variant=f"rtn-2+v{number}") for row in rows if row.variant == "rtn-2"]
    content = page(tabulate(many), make.summary(rows), [])
    assert content.count("rtn-2+v39") > 3
    assert len(content.encode()) < 2_500_000


def test_the_answer_stands_before_the_baseline_and_the_next_tier_and_after_no_override(make):
    rows = make.rows()
    lead = (
        "Tier 0: one target.",
        "This was overridden.",
        "Blind baseline (no model): AUC 0.6.",
        "Next, tier 1: more.",
    )
    content = page(tabulate(rows), make.summary(rows, lead=lead), ())
    places = [content.index(line) for line in lead]
    sliders, notes = content.index("limits-title"), content.index("What was not tried?")
    assert places[0] < places[1] < sliders < notes < places[2] < places[3]
