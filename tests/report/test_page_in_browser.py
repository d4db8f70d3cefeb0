"""The page in a real browser: no error, no request, sliders, sorting, keyboard, scripts off."""

import pytest
from browser import Browser, chromium

from bitleak.report import tabulate
from bitleak.report.limit_grid import limit_grid
from bitleak.report.page_data import LETTERS

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium on PATH to open the page in"
)

READY = 'document.getElementById("chart-tradeoff").hasAttribute("data-ready")'
TAB, ENTER, RIGHT = 9, 13, 39


@pytest.fixture(scope="module")
def browser():
    opened = Browser(chromium())
    yield opened
    opened.close()


@pytest.fixture
def page(browser, folder):
    browser.open(folder / "report.html")
    browser.wait(READY)
    return browser


def names(page, letter):
    listed = page.run(
        f"""[...document.querySelectorAll("#outcome-{letter} .variant")].map((node) => node.textContent)"""
    )
    return {name.split(" (")[0] for name in listed}


def slide(page, name, value):
    page.run(
        f"""(() => {{ const slider = document.getElementById("{name}"); slider.value = {value};
        slider.dispatchEvent(new Event("input")); }})()"""
    )


def test_the_page_logs_no_error_and_makes_no_request(page):
    page.run('document.getElementById("open-all").click()')
    for chart in ("adversaries", "curves"):
        page.wait(f'document.getElementById("chart-{chart}").hasAttribute("data-ready")')
        assert page.run(f'document.querySelectorAll("#chart-{chart} svg path").length') > 10
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in page.requests) == 1


@pytest.mark.parametrize(("loss", "leakage"), [(0, 0), (8, 3), (8, 12), (13, 20), (19, 40)])
def test_the_sliders_choose_the_variants_that_the_tests_choose(page, rows, summary, loss, leakage):
    grid = limit_grid(tabulate(rows), summary)
    leakage = min(leakage, len(grid.leakages) - 1)
    slide(page, "loss", loss)
    slide(page, "leakage", leakage)
    places = grid.decisions[loss][leakage]
    for outcome, letter in LETTERS.items():
        expected = {
            n for n, place in zip(grid.variants, places, strict=True) if place.outcome == outcome
        }
        assert names(page, letter) == expected
    command = page.run('document.getElementById("command").textContent')
    assert f"--max-accuracy-drop {grid.losses[loss]:g}" in command
    assert f"--max {grid.metric}={grid.leakages[leakage]:g}" in command
    undecided = [
        f"{name}: {grid.needed(summary, loss, leakage, index)}"
        for index, (name, place) in enumerate(zip(grid.variants, places, strict=True))
        if place.outcome == "inconclusive"
    ]
    shown = page.run('[...document.querySelectorAll("#needed-list li")].map((n) => n.textContent)')
    assert sorted(shown) == sorted(undecided)


def test_the_figure_marks_the_variants_that_satisfy_the_limits(page, rows, summary):
    grid = limit_grid(tabulate(rows), summary)
    slide(page, "loss", len(grid.losses) - 1)
    slide(page, "leakage", len(grid.leakages) - 1)
    passing = sum(place.outcome == "pass" for place in grid.decisions[-1][-1])
    labels = """[...document.querySelectorAll("#chart-tradeoff [aria-label]")]
        .filter((node) => node.getAttribute("aria-label").endsWith("; satisfies the limits")).length"""
    assert passing > 3
    page.wait(f"{labels} === {passing}")


def test_a_click_on_a_heading_sorts_by_its_numbers_in_both_directions(page):
    column = """(() => { const table = document.querySelector("#table table");
        const cells = [...table.tBodies[0].rows].map((row) => row.cells[2].firstChild.textContent);
        return cells.map(Number).filter((value) => !Number.isNaN(value)); })()"""
    click = 'document.querySelectorAll("#table table thead button")[2].click()'
    heading = 'document.querySelectorAll("#table table thead th")[2].getAttribute("aria-sort")'
    before = page.run(column)
    page.run(click)
    assert page.run(column) == sorted(before) != before
    assert page.run(heading) == "ascending"
    page.run(click)
    assert page.run(column) == sorted(before, reverse=True)
    assert page.run(heading) == "descending"


def test_the_table_is_filtered_and_its_long_columns_are_optional(page):
    shown = '[...document.querySelector("#table table").tBodies[0].rows].filter((r) => !r.hidden).length'
    everything = page.run(shown)
    page.run(
        """(() => { const field = document.querySelector("#table input[type=search]");
        field.value = "BRECQ"; field.dispatchEvent(new Event("input")); })()"""
    )
    assert 0 < page.run(shown) == 3 < everything
    hidden = (
        '[...document.querySelectorAll("#table table")][0].querySelectorAll("th[hidden]").length'
    )
    assert page.run(hidden) > 0
    page.run(
        """document.querySelectorAll("#table .tools input[type=checkbox]:not(:checked)")
        .forEach((box) => box.click())"""
    )
    assert page.run(hidden) == 0


def test_the_keyboard_reaches_and_works_everything(page):
    start = page.run('document.getElementById("loss").value')
    reached = set()
    describe = """(() => { const node = document.activeElement;
        return node.id || (node.tagName === "SUMMARY" ? node.parentElement.id : node.tagName); })()"""
    for _ in range(60):
        page.press("Tab", TAB)
        place = page.run(describe)
        if place == "loss" and place not in reached:
            page.press("ArrowRight", RIGHT)
        if place == "table" and place not in reached:
            page.press("Enter", ENTER, "\r")
        reached.add(place)
    parts = set(page.run('[...document.querySelectorAll("details.part")].map((part) => part.id)'))
    assert {"loss", "leakage", "command", "open-all", "BUTTON", "INPUT"} <= reached
    assert {"findings", "adversaries", "table"} <= parts & reached
    assert page.run('document.getElementById("table").open')
    assert int(page.run('document.getElementById("loss").value')) == int(start) + 1


def test_without_scripts_the_static_figure_takes_the_place_of_the_sliders(browser, folder):
    browser.open(folder / "report.html", scripts=False)
    root = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    assert browser.console == []
    place = browser.call("DOM.querySelector", nodeId=root, selector="#figure-tradeoff svg")
    assert place["nodeId"]
    box = browser.call("DOM.getBoxModel", nodeId=place["nodeId"])["model"]
    assert box["width"] > 300
    for scripted in ("#loss", "#leakage"):
        node = browser.call("DOM.querySelector", nodeId=root, selector=scripted)["nodeId"]
        with pytest.raises(RuntimeError, match="box model"):
            browser.call("DOM.getBoxModel", nodeId=node)


@pytest.mark.parametrize(("width", "dark"), [(420, False), (1440, True)])
def test_nothing_is_wider_than_the_screen_and_colours_follow_it(browser, folder, width, dark):
    browser.open(folder / "report.html", width=width, dark=dark)
    browser.wait(READY)
    assert browser.run("document.documentElement.scrollWidth") <= width
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark


def test_the_first_screen_holds_the_answer_the_limits_and_how_sure_it_is(page):
    for place in (".answer", "#limits-title", "#chart-tradeoff", ".notes h2"):
        top = page.run(f"document.querySelector({place!r}).getBoundingClientRect().top")
        assert 0 < top < 850, place


def test_the_names_of_the_curves_are_inside_their_picture(page):
    page.run('document.getElementById("curves").open = true')
    page.wait('document.getElementById("chart-curves").hasAttribute("data-ready")')
    tops = page.run(
        """(() => { const svg = document.querySelector("#chart-curves svg");
        const names = [...svg.querySelectorAll(".role-legend-label text")];
        return [svg.getBoundingClientRect().top, ...names.map((n) => n.getBoundingClientRect().top)]; })()"""
    )
    assert len(tops) == 3
    assert min(tops) == tops[0]


def test_print_opens_the_parts_and_leaves_their_long_tables_folded(browser, folder):
    browser.open(folder / "report.html", media="print")
    browser.wait(READY)
    visible = "(node) => node.checkVisibility({contentVisibilityAuto: true})"
    parts = f'[...document.querySelectorAll("details.part > p")].map({visible})'
    tables = f'[...document.querySelectorAll("details.part details table")].map({visible})'
    shown, folded = browser.run(parts), browser.run(tables)
    assert len(shown) > 5
    assert all(shown)
    assert len(folded) > 5
    assert not any(folded)
