"use strict";
// The theme, sortable tables, the filter, and Plotly's figures, which are drawn when they come into view.
(() => {
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const kept = "meta-spliceai theme";
  const stored = () => { try { return localStorage.getItem(kept); } catch { return null; } };
  let theme = Math.max(0, themes.indexOf(stored()));

  const colours = () => {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), card: of("--card"), grid: of("--rule") };
  };
  const dressed = (layout) => {
    const { ink, card, grid } = colours();
    const made = { ...layout, paper_bgcolor: card, plot_bgcolor: card, font: { ...layout.font, color: ink, family: "system-ui, sans-serif", size: 12 }, hovermode: "closest" };
    for (const name of Object.keys(made).concat("xaxis", "yaxis")) {
      if (/^[xy]axis\d*$/.test(name)) made[name] = { ...made[name], gridcolor: grid, linecolor: grid, zerolinecolor: grid };
    }
    return made;
  };
  const draw = (box, data, layout) => Plotly.react(box, data, dressed(layout), { responsive: true, displaylogo: false });
  const drawn = new Map();
  const show = (box) => {
    const figure = drawn.get(box) || JSON.parse(box.nextElementSibling.textContent);
    drawn.set(box, figure);
    draw(box, figure.data, figure.layout);
  };
  window.drawPlot = (box, data, layout) => { drawn.set(box, { data, layout }); draw(box, data, layout); };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); show(entry.target); }
  }, { rootMargin: "300px" });
  for (const box of document.querySelectorAll(".plot")) seen.observe(box);

  const wear = () => {
    if (theme === 0) root.removeAttribute("data-theme"); else root.dataset.theme = themes[theme];
    button.textContent = `Theme: ${themes[theme]}`;
    for (const [box, figure] of drawn) draw(box, figure.data, figure.layout);
  };
  wear();
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    try { localStorage.setItem(kept, themes[theme]); } catch { /* not kept, then */ }
    wear();
  });

  // Numbers by value, cells without one last, whichever the direction.
  const keyOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => (Number.isNaN(Number(a)) || Number.isNaN(Number(b)) ? a.localeCompare(b) : a - b);
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.className = "sort";
      sort.textContent = head.textContent;
      head.replaceChildren(sort);
      sort.addEventListener("click", () => {
        const first = head.classList.contains("num") ? "descending" : "ascending";
        const before = head.getAttribute("aria-sort");
        const next = before === null ? first : before === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, column), row]);
        rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : (next === "ascending" ? 1 : -1) * compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
  for (const box of document.querySelectorAll("input.filter")) {
    box.closest(".controls").hidden = false;
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of document.getElementById(box.dataset.filters).tBodies[0].rows) {
        row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      }
    });
  }
})();
