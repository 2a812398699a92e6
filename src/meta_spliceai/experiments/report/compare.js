"use strict";
(() => {
  // Two runs side by side, from the data within the page. Differences of runs judged on the same rows are paired: both
  // were given the same resamples of groups when the page was made.
  const { labels, runs } = JSON.parse(document.getElementById("compared").textContent);
  const pick = document.getElementById("pick");
  if (!pick || runs.length < 2) return;
  const first = document.getElementById("first"), second = document.getElementById("second");
  const every = document.getElementById("all");
  const byName = new Map(runs.map((run) => [run.name, run]));
  const svgSpace = "http://www.w3.org/2000/svg";

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (name, attributes = {}, ...children) => {
    const element = document.createElementNS(svgSpace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const number = (value, sign = false) => {
    if (value === null || value === undefined) return "–";
    const text = value.toFixed(3).replace("-", "−");
    return (sign && value > 0 ? "+" : "") + (Number(value.toFixed(3)) === 0 ? "0.000" : text);
  };
  const interval = (low, high) =>
    low === null || high === null || low === undefined ? "" : `[${number(low)}, ${number(high)}]`;

  // The percentiles of paired differences; null where a resample lacks a class in more than one of twenty.
  const paired = (a, b, metric) => {
    if (!a.plan || a.plan !== b.plan || !a.areas || !b.areas || !a.areas[metric] || !b.areas[metric]) return null;
    const differences = [];
    a.areas[metric].forEach((value, i) => {
      const other = b.areas[metric][i];
      if (value !== null && other !== null) differences.push(value - other);
    });
    if (differences.length < 0.95 * a.areas[metric].length || differences.length < 20) return null;
    differences.sort((x, y) => x - y);
    const at = (share) => {
      const place = share * (differences.length - 1), below = Math.floor(place);
      const above = Math.min(below + 1, differences.length - 1);
      return differences[below] + (differences[above] - differences[below]) * (place - below);
    };
    return [at(0.025), at(0.975)];
  };

  const say = (a, b) => {
    const box = make("div", { class: "verdict calm" });
    const line = make("p");
    const other = make("p", { class: "soft" });
    if (a === b) {
      line.textContent = "Both sides are the same run; choose another one.";
    } else if (!a.metrics.auprc || !b.metrics.auprc) {
      line.textContent = "At least one of the runs has no result to compare; the fields below still can be.";
    } else {
      const difference = a.metrics.auprc[0] === null || b.metrics.auprc[0] === null
        ? null : a.metrics.auprc[0] - b.metrics.auprc[0];
      const range = paired(a, b, "auprc");
      if (a.test !== b.test) {
        line.textContent = "The two were judged on different test variants: their numbers stand side by side, and say nothing of which one is better.";
        other.textContent = `On the rows they share: meta-spliceai runs compare ${a.name} ${b.name}`;
      } else if (difference === null) {
        line.textContent = "AUPRC is not defined for one of the runs.";
      } else if (range === null) {
        line.textContent = `AUPRC of A minus B: ${number(difference, true)}, on the same test variants.`;
        const why = a.no_curves || b.no_curves || "groups differ, or a class is missing in too many resamples";
        other.textContent = `No paired interval: ${why}.`;
      } else {
        const sure = range[0] > 0 ? "A is better" : range[1] < 0 ? "B is better" : "not shown to differ";
        line.textContent = `AUPRC of A minus B: ${number(difference, true)} ${interval(...range)}, paired on the same resamples of groups: ${sure}.`;
        box.className = `verdict ${range[0] > 0 || range[1] < 0 ? "good" : "warn"}`;
      }
    }
    box.append(line);
    if (other.textContent) box.append(other);
    if (a.smoke || b.smoke) box.append(make("p", { class: "soft" }, "A smoke run only shows that a row runs; its numbers are no result."));
    document.getElementById("verdict").replaceChildren(box);
  };

  const header = (...names) =>
    make("thead", {}, make("tr", {}, ...names.map((name, i) => make("th", { scope: "col", class: i ? "num" : "" }, name))));

  const numbers = (a, b) => {
    const body = make("tbody");
    for (const [metric, label] of Object.entries(labels)) {
      const x = a.metrics[metric], y = b.metrics[metric];
      if (!x && !y) continue;
      const cell = (value) => make("td", { class: "num" }, number(value && value[0]), make("small", {}, value ? interval(value[1], value[2]) : ""));
      const both = x && y && x[0] !== null && y[0] !== null && a.test === b.test;
      const range = both ? paired(a, b, metric) : null;
      body.append(make("tr", {}, make("th", { scope: "row" }, label), cell(x), cell(y),
        make("td", { class: "num" }, both ? number(x[0] - y[0], true) : "–", make("small", {}, range ? interval(...range) : ""))));
    }
    const section = document.getElementById("numbers-section");
    section.hidden = !body.rows.length;
    document.getElementById("numbers").replaceChildren(make("table", {}, header("Metric of the learned model", "A", "B", "A minus B"), body));
    const plots = [
      lines("Precision by recall", "recall", "precision", grid(a.precision), grid(b.precision), [0, 1]),
      lines("ROC", "false-positive rate", "true-positive rate", grid(a.sensitivity), grid(b.sensitivity), [0, 1]),
      lines("Validation loss by epoch", "epoch", "loss", losses(a, "val_loss"), losses(b, "val_loss"), null),
      lines("Training loss by epoch", "epoch", "loss", losses(a, "train_loss"), losses(b, "train_loss"), null),
    ].filter(Boolean);
    for (const [side, run] of [["A", a], ["B", b]]) {
      if (run.no_curves) plots.push(make("p", { class: "empty" }, `Precision, recall and ROC of ${side} cannot be drawn: ${run.no_curves}.`));
    }
    document.getElementById("drawn").replaceChildren(...plots);
  };
  const grid = (values) => (values || []).map((value, i) => [i / (values.length - 1), value]).filter(([, v]) => v !== null);
  const losses = (run, column) => (run.losses[column] || []).map((value, i) => [run.losses.epoch[i], value]).filter(([, v]) => v !== null);

  // A small plot of two lines: A solid, B dashed.
  const lines = (title, across, up, a, b, range) => {
    if (!a.length && !b.length) return null;
    const all = [...a, ...b];
    const xs = range || [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x), Math.min(...all.map(([x]) => x)) + 1)];
    const values = all.map(([, y]) => y);
    const margin = (Math.max(...values) - Math.min(...values)) * 0.06 || 0.05;
    const ys = range || [Math.min(...values) - margin, Math.max(...values) + margin];
    const left = 74, right = 504, top = 30, bottom = 300;
    const x = (value) => left + ((right - left) * (value - xs[0])) / (xs[1] - xs[0]);
    const y = (value) => bottom - ((bottom - top) * (value - ys[0])) / (ys[1] - ys[0]);
    const ticks = ([low, high]) => {
      const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
      const found = [];
      for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(10)));
      return found;
    };
    const svg = draw("svg", { viewBox: "0 0 520 352", role: "img", class: "plot", tabindex: "0", "aria-label": `${title}: run A and run B` });
    svg.append(draw("text", { x: left, y: 18, class: "panel-title" }, title));
    for (const tick of ticks(xs)) {
      svg.append(draw("line", { x1: x(tick), x2: x(tick), y1: top, y2: bottom, class: "grid" }),
        draw("text", { x: x(tick), y: bottom + 16, class: "tick", "text-anchor": "middle" }, String(tick)));
    }
    for (const tick of ticks(ys)) {
      svg.append(draw("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
        draw("text", { x: left - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, String(tick)));
    }
    svg.append(draw("text", { x: (left + right) / 2, y: bottom + 38, class: "label", "text-anchor": "middle" }, across),
      draw("text", { class: "label", "text-anchor": "middle", transform: `translate(18 ${(top + bottom) / 2}) rotate(-90)` }, up));
    [["A", a], ["B", b]].forEach(([side, points]) => {
      if (!points.length) return;
      svg.append(draw("polyline", { points: points.map(([u, v]) => `${x(u).toFixed(1)},${y(v).toFixed(1)}`).join(" "), class: `curve side-${side.toLowerCase()}` }));
      const every = Math.max(1, Math.floor(points.length / 12));
      points.forEach(([u, v], i) => {
        if (i % every) return;
        svg.append(draw("circle", { cx: x(u), cy: y(v), r: 5, class: "spot", "data-tip": `${side}: ${up} ${number(v)} at ${across} ${Number(u.toPrecision(3))}` }));
      });
    });
    return make("figure", { class: "card" }, svg, make("figcaption", {},
      make("span", {}, make("span", { class: "side a" }, "A"), " solid"), make("span", {}, make("span", { class: "side b" }, "B"), " dashed")));
  };

  const fields = (a, b) => {
    const names = [...new Set([...Object.keys(a.facts), ...Object.keys(b.facts)])];
    const body = make("tbody");
    let same = 0;
    for (const name of names) {
      const x = a.facts[name], y = b.facts[name];
      const differs = x !== y;
      if (!differs) same += 1;
      if (!differs && !every.checked) continue;
      const value = (text) => make("td", { class: "value" }, text === undefined ? "–" : text === "" ? "none" : text);
      body.append(make("tr", { class: differs ? "differs" : "" }, make("th", { scope: "row" }, make("code", {}, name)), value(x), value(y)));
    }
    const table = make("table", { class: "fields" }, make("caption", {}, `${names.length - same} of ${names.length} fields differ.`),
      header("Field", "A", "B"), body);
    document.getElementById("fields").replaceChildren(table);
    document.getElementById("fields-section").hidden = false;
  };

  const show = () => {
    const a = byName.get(first.value), b = byName.get(second.value);
    say(a, b);
    numbers(a, b);
    fields(a, b);
  };
  const chosen = () => {
    const asked = decodeURIComponent(location.hash.slice(1)).split(",").filter((name) => byName.has(name));
    const start = asked[0] || runs[0].name;
    const rest = runs.filter((run) => run.name !== start);
    const kin = rest.find((run) => run.test && run.test === byName.get(start).test);
    first.value = start;
    second.value = asked[1] || (kin || rest[0]).name;
  };
  const remember = () => history.replaceState(null, "", `#${encodeURIComponent(first.value)},${encodeURIComponent(second.value)}`);
  for (const element of [first, second]) element.addEventListener("change", () => { remember(); show(); });
  document.getElementById("swap").addEventListener("click", () => {
    [first.value, second.value] = [second.value, first.value];
    remember();
    show();
  });
  every.addEventListener("change", show);
  addEventListener("hashchange", () => { chosen(); show(); });
  pick.hidden = false;
  chosen();
  show();
})();
