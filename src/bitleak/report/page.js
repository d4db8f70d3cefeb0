"use strict";
// The page's own script. Outcomes at limits are looked up, never computed: see limit_grid.py.
(() => {
  const data = JSON.parse(document.getElementById("bitleak-data").textContent);
  const place = (id) => document.getElementById(id);
  // Vega numbers the objects that it is given, so that each view needs objects of its own.
  const copy = (value) => JSON.parse(JSON.stringify(value));
  const views = {};
  const drawn = {};

  // Charts: Vega-Lite makes a Vega specification, whose expressions the interpreter runs.
  function draw(name) {
    const node = place(`chart-${name}`);
    if (!node || !data.charts[name] || drawn[name]) return;
    const spec = copy(data.charts[name]);
    drawn[name] = true;
    const figure = node.closest("figure") || node;
    figure.hidden = false;
    const compiled = vegaLite.compile(spec).spec;
    const runtime = vega.parse(compiled, null, { ast: true });
    const view = new vega.View(runtime, {
      renderer: "svg", container: node, hover: true, expr: vega.expressionInterpreter,
      logLevel: vega.Error,
    });
    views[name] = view;
    view.runAsync().then(() => update(name)).then(() => node.setAttribute("data-ready", ""));
  }

  function update(name) {
    if (name === "tradeoff") return showLimits();
    if (name === "curves") return showCurves();
    return Promise.resolve();
  }

  // Limits: two sliders, the outcome of every variant, and the command that repeats it.
  const words = { p: "satisfies the limits", f: "exceeds a limit", i: "not decided", n: "not evaluable" };
  const signs = { p: "\u2713", f: "\u2717", i: "?", n: "\u2013" };

  function chosenLimits() {
    const loss = place("loss") ? Number(place("loss").value) : 0;
    return [loss, Number(place("leakage").value)];
  }

  function showLimits() {
    const limits = data.limits;
    if (!limits || !place("leakage")) return Promise.resolve();
    const [loss, leakage] = chosenLimits();
    const outcomes = limits.variants.map((variant) => variant.outcomes[loss][leakage]);
    if (place("loss")) {
      place("loss-text").textContent = limits.lossTexts[loss];
      place("loss").setAttribute("aria-valuetext", limits.lossTexts[loss]);
    }
    place("leakage-text").textContent = limits.leakageTexts[leakage];
    place("leakage").setAttribute("aria-valuetext", limits.leakageTexts[leakage]);

    for (const letter of Object.keys(words)) {
      const chosen = limits.order.filter((index) => outcomes[index] === letter);
      const item = place(`outcome-${letter}`);
      item.hidden = chosen.length === 0 && letter !== "p";
      const list = item.querySelector(".names");
      list.textContent = chosen.length ? "" : "none";
      chosen.forEach((index, order) => {
        const variant = limits.variants[index];
        const name = document.createElement("span");
        name.className = "variant";
        name.textContent = variant.name + (variant.size ? ` (${variant.size})` : "");
        if (letter === "i") name.title = needed(variant, loss, leakage);
        list.append(order ? ", " : "", name);
      });
    }
    const open = limits.order.filter((index) => outcomes[index] === "i");
    place("needed").hidden = open.length === 0;
    place("needed-list").replaceChildren(...open.map((index) => {
      const line = document.createElement("li");
      const variant = limits.variants[index];
      line.textContent = `${variant.name}: ${needed(variant, loss, leakage)}`;
      return line;
    }));

    const first = limits.order.find((index) => outcomes[index] === "p");
    const best = place("best");
    best.textContent = first === undefined
      ? "No variant is shown to satisfy these limits."
      : `The smallest that satisfies the limits: ${limits.variants[first].name}, ${limits.variants[first].sentence}.`;
    place("command").textContent = command(loss, leakage);

    const view = views.tradeoff;
    if (!view) return Promise.resolve();
    const byName = new Map(limits.variants.map((variant, index) => [variant.name, index]));
    const full = { p: "pass", f: "fail", i: "inconclusive", n: "not evaluable" };
    const points = data.charts.tradeoff.layer[2].data.values.map((point) => {
      const index = byName.get(point.name);
      if (index === undefined) return { ...point };
      const letter = outcomes[index];
      return {
        ...point, outcome: full[letter], word: words[letter],
        mark: letter === "p" ? signs.p : letter === "i" ? signs.i : "",
        best: index === first ? point.name : "",
        tip: `${point.tip}; ${words[letter]}`,
      };
    });
    const corner = {
      left: -1000, loss: 100 * Number(limits.losses[loss]),
      bottom: 0, leakage: 100 * Number(limits.leakages[leakage]),
    };
    return view.data("variants", points).data("limits", [corner]).runAsync();
  }

  function needed(variant, loss, leakage) {
    const [, byLeakage] = variant.leakage[leakage];
    if (!variant.loss.length) return byLeakage;
    const [ofLoss, byLoss] = variant.loss[loss];
    return ofLoss > variant.leakage[leakage][0] ? byLoss : byLeakage;
  }

  function command(loss, leakage) {
    const { losses, leakages, check } = data.limits;
    const accuracy = losses.length ? ` --max-accuracy-drop ${losses[loss]}` : "";
    return `bitleak check RUN --max ${check.metric}=${leakages[leakage]}${accuracy}${check.adversary}${check.variant}`;
  }

  // Curves of full precision and of the variant that is chosen.
  function showCurves() {
    const select = place("curve-variant");
    const view = views.curves;
    if (!select || !view) return Promise.resolve();
    const names = [...new Set(["fp32", select.value])];
    const curves = copy(names.flatMap((name) => data.curves[name].curves));
    const bars = copy(names.flatMap((name) => data.curves[name].bars));
    // the legend grows with the names, and the picture with it
    return view.data("curves", curves).data("bars", bars).resize().runAsync();
  }

  // Tables: a click on a heading sorts, a field filters, boxes show and hide columns.
  function number(text) {
    const found = text.replace(/,/g, "").match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  }

  function value(row, column) {
    const cell = row.cells[column];
    return (cell.firstChild ? cell.firstChild.textContent : "").trim();
  }

  function sort(table, column, descending) {
    const rows = [...table.tBodies[0].rows];
    const sign = descending ? -1 : 1;
    const numeric = column > 0 && rows.some((row) => !Number.isNaN(number(value(row, column))));
    rows.sort((first, second) => {
      const one = value(first, column), two = value(second, column);
      if (!numeric) return sign * one.localeCompare(two, "en", { numeric: true });
      const a = number(one), b = number(two);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    table.tBodies[0].append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (index === column) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  }

  function addTools(table) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      button.addEventListener("click", () => {
        sort(table, column, cell.getAttribute("aria-sort") === "ascending");
      });
      cell.replaceChildren(button);
    });
    if (!table.dataset.tools) return;

    const tools = document.createElement("div");
    tools.className = "tools";
    const label = document.createElement("label");
    const field = document.createElement("input");
    field.type = "search";
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
    label.append("Filter: ", field);
    tools.append(label);
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (!column) return;
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !cell.hasAttribute("data-optional");
      const show = () => {
        for (const row of table.rows) row.cells[column].hidden = !box.checked;
      };
      box.addEventListener("change", show);
      show();
      const title = document.createElement("label");
      title.append(box, ` ${cell.textContent}`);
      tools.append(title);
    });
    table.parentElement.before(tools);
  }

  // Folded parts: charts are drawn when they are first seen; a link opens its part.
  function seen(part) {
    part.querySelectorAll("[id^=chart-]").forEach((node) => draw(node.id.slice(6)));
  }

  function openTarget() {
    const target = location.hash.length > 1 && place(location.hash.slice(1));
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") node.open = true;
    }
  }

  document.querySelectorAll("table").forEach(addTools);
  document.querySelectorAll("details").forEach((part) => {
    part.addEventListener("toggle", () => part.open && seen(part));
  });
  ["loss", "leakage"].forEach((id) => place(id) && place(id).addEventListener("input", showLimits));
  if (place("curve-variant")) place("curve-variant").addEventListener("change", showCurves);
  const all = place("open-all");
  all.hidden = false;
  all.addEventListener("click", () => {
    const parts = [...document.querySelectorAll("details.part")];
    const open = !parts.every((part) => part.open);
    parts.forEach((part) => { part.open = open; });
    all.textContent = open ? "Close all" : "Open all";
  });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.part, #needed").forEach((part) => {
      part.open = true;
      seen(part);
    });
  });
  window.addEventListener("hashchange", openTarget);
  document.querySelectorAll(".scripted").forEach((node) => { node.hidden = false; });

  // The figure of the first screen takes the place of the static one, which moves below.
  const figure = place("figure-tradeoff");
  if (data.charts.tradeoff && figure && place("static-figures")) {
    place("static-figures").append(figure);
  }
  openTarget();
  draw("tradeoff");
  showLimits();
})();
