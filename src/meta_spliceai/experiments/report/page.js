"use strict";
(() => {
  const root = document.documentElement;

  // The theme: what the system says, or light, or dark; kept for the site's other pages where the browser allows it.
  const themes = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme");
  const keep = "meta-spliceai theme";
  const stored = () => { try { return localStorage.getItem(keep); } catch { return null; } };
  let theme = Math.max(0, themes.indexOf(stored()));
  const wear = () => {
    if (theme === 0) root.removeAttribute("data-theme");
    else root.dataset.theme = themes[theme];
    themeButton.textContent = `Theme: ${themes[theme]}`;
  };
  wear();
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    try { localStorage.setItem(keep, themes[theme]); } catch { /* not kept, then */ }
    wear();
  });

  // Tables: a heading becomes a button; numbers by value, cells without one last, whichever the direction.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.value;
    return given === undefined ? cell.textContent.trim() : given;
  };
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const absent = (key) => key === "" || key === "nan" || key === "None";
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.classList.contains("num") ? "descending" : "ascending";
        const next = before === null ? first : before === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
        rows.sort(([a], [b]) => {
          if (absent(a) || absent(b)) return Number(absent(a)) - Number(absent(b));
          return sign * compare(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
})();
