"use strict";
// Two runs side by side, each from its file in data/. Differences of runs evaluated on the same rows are paired: both
// were given the same resamples of groups when their pages were made.
const loaded = new Map();
let list = [];
const compared = (run) => loaded.set(run.name, run);
const runs = (found) => { list = found.map(([name, title, state, smoke, test]) => ({ name, title, state, smoke, test })); start(); };
const $ = (id) => document.getElementById(id);
const make = (name, attributes, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const number = (value, sign = false) => {
  if (value === null || value === undefined) return "–";
  if (Number(value.toFixed(3)) === 0) return "0.000";
  return (sign && value > 0 ? "+" : "") + value.toFixed(3).replace("-", "−");
};
const interval = (low, high) => (low === null || high === null ? "" : ` [${number(low)}, ${number(high)}]`);

const load = (name) => loaded.has(name) ? Promise.resolve() : new Promise((done, failed) => {
  const script = make("script", { src: `data/${encodeURIComponent(name)}.js` });
  script.addEventListener("load", done);
  script.addEventListener("error", failed);
  document.head.append(script);
});

// The percentiles of paired differences; null where a resample lacks a class in more than one of twenty.
const paired = (a, b, metric) => {
  const mine = a.areas[metric], theirs = b.areas[metric];
  if (!a.plan || a.plan !== b.plan || !mine || !theirs) return null;
  const found = mine.map((value, i) => (value === null || theirs[i] === null ? null : value - theirs[i])).filter((d) => d !== null);
  if (found.length < Math.max(20, 0.95 * mine.length)) return null;
  found.sort((x, y) => x - y);
  const at = (share) => {
    const place = share * (found.length - 1), below = Math.floor(place), above = Math.min(below + 1, found.length - 1);
    return found[below] + (found[above] - found[below]) * (place - below);
  };
  return [at(0.025), at(0.975)];
};

const verdict = (a, b) => {
  const x = Object.values(a.metrics).find(([metric]) => metric === "auprc"), y = Object.values(b.metrics).find(([metric]) => metric === "auprc");
  if (a === b) return ["calm", "Both sides are the same run; choose another one."];
  if (!x || !y || x[1] === null || y[1] === null) return ["calm", "At least one of the runs has no result to compare; the fields below still can be."];
  if (!a.test || a.test !== b.test) return ["calm", `The two were evaluated on different test variants: their numbers stand side by side, and say nothing of which one is better. On the rows they share: meta-spliceai runs compare ${a.name} ${b.name}`];
  const range = paired(a, b, "auprc"), amount = number(x[1] - y[1], true);
  if (!range) return ["calm", `AUPRC of A minus B: ${amount}, on the same test variants. No paired interval: ${a.no_curves || b.no_curves || "groups differ, or a class is missing in too many resamples"}.`];
  const sure = range[0] > 0 ? "A is better" : range[1] < 0 ? "B is better" : "not shown to differ";
  return [sure.endsWith("better") ? "good" : "warn", `AUPRC of A minus B: ${amount}${interval(...range)}, paired on the same resamples of groups: ${sure}.`];
};

const table = (heads, rows, caption) => {
  const head = make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", class: i ? "num" : "" }, text)));
  const body = rows.map((cells) => make("tr", {}, make("th", { scope: "row" }, cells[0]), ...cells.slice(1).map((text) => make("td", { class: "num" }, text))));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
};

const plotted = (title, across, up, sides) => {
  const data = sides.filter(({ y }) => y && y.length).map(({ side, x, y }) => ({ x, y, mode: "lines", name: side, line: { color: side === "A" ? "#2382c4" : "#d9641a", dash: side === "A" ? "solid" : "dash" } }));
  if (!data.length) return null;
  const box = make("div", { role: "img", "aria-label": `${title}: run A and run B`, style: "height:380px" });
  const figure = make("figure", { class: "card" }, box);
  $("drawn").append(figure);
  window.drawPlot(box, data, { title: { text: title, font: { size: 14 } }, xaxis: { title: { text: across } }, yaxis: { title: { text: up } }, margin: { l: 60, r: 20, t: 40, b: 50 } });
  return figure;
};

const show = async () => {
  await Promise.all([$("first").value, $("second").value].map(load));
  const a = loaded.get($("first").value), b = loaded.get($("second").value);
  const [level, words] = verdict(a, b);
  $("verdict").replaceChildren(make("p", { class: `verdict ${level}` }, words));
  if (list.some((run) => run.smoke && [a.name, b.name].includes(run.name))) $("verdict").append(make("p", { class: "soft" }, "A smoke run only shows that a row runs; its numbers are no result."));
  const rows = [];
  for (const label of new Set([...Object.keys(a.metrics), ...Object.keys(b.metrics)])) {
    const x = a.metrics[label], y = b.metrics[label];
    const both = x && y && x[1] !== null && y[1] !== null && a.test && a.test === b.test;
    const range = both ? paired(a, b, x[0]) : null;
    const text = (value) => (value ? number(value[1]) + interval(value[2], value[3]) : "–");
    rows.push([label, text(x), text(y), both ? number(x[1] - y[1], true) + (range ? interval(...range) : "") : "–"]);
  }
  $("numbers-section").hidden = !rows.length;
  $("numbers").replaceChildren(table(["Metric of the learned model", "A", "B", "A minus B"], rows, ""));
  $("drawn").replaceChildren();
  const sides = [["A", a], ["B", b]];
  const curve = (name) => sides.map(([side, run]) => {
    const y = run.curves[run.learned]?.[name].value;
    return { side, y, x: y && y.map((_, i) => i / (y.length - 1)) };
  });
  plotted("Precision by recall", "recall", "precision", curve("precision"));
  plotted("ROC", "false-positive rate", "true-positive rate", curve("sensitivity"));
  for (const [column, title] of [["val_loss", "Validation loss"], ["train_loss", "Training loss"]]) {
    plotted(title, "epoch", "loss", sides.map(([side, run]) => ({ side, x: run.losses.epoch, y: run.losses[column] })));
  }
  for (const [side, run] of sides) if (run.no_curves) $("drawn").append(make("p", { class: "empty" }, `Precision, recall and ROC of ${side} cannot be drawn: ${run.no_curves}.`));
  const names = [...new Set([...Object.keys(a.facts), ...Object.keys(b.facts)])];
  const differ = names.filter((name) => a.facts[name] !== b.facts[name]);
  const told = (value) => (value === undefined ? "–" : value === "" ? "none" : value);
  $("fields").replaceChildren(table(["Field", "A", "B"], ($("all").checked ? names : differ).map((name) => [name, told(a.facts[name]), told(b.facts[name])]), `${differ.length} of ${names.length} fields differ.`));
  $("fields-section").hidden = false;
};

const start = () => {
  const names = list.map((run) => run.name);
  for (const id of ["first", "second"]) $(id).replaceChildren(...list.map((run) => make("option", { value: run.name }, `${run.title} · ${run.name} (${run.smoke ? "smoke, " : ""}${run.state})`)));
  const choose = () => {
    const asked = location.hash.slice(1).split(",").map(decodeURIComponent).filter((name) => names.includes(name));
    $("first").value = asked[0] || names[0];
    const rest = list.filter((run) => run.name !== $("first").value);
    const kin = rest.find((run) => run.test && run.test === list[names.indexOf($("first").value)].test);
    $("second").value = asked[1] || (kin || rest[0]).name;
  };
  const changed = () => { history.replaceState(null, "", `#${encodeURIComponent($("first").value)},${encodeURIComponent($("second").value)}`); show(); };
  for (const id of ["first", "second"]) $(id).addEventListener("change", changed);
  $("swap").addEventListener("click", () => { [$("first").value, $("second").value] = [$("second").value, $("first").value]; changed(); });
  $("all").addEventListener("change", show);
  addEventListener("hashchange", () => { choose(); show(); });
  $("pick").hidden = false;
  choose();
  show();
};
