"use strict";
(() => {
  // What a mark of a plot says: shown at the pointer, and by arrow keys for a plot that has the focus.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const place = (x, y) => {
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(innerWidth - width - 8, x + 12))}px`;
    tip.style.top = `${y + height + 24 > innerHeight ? Math.max(8, y - height - 12) : y + 14}px`;
  };
  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    if (x === undefined) {
      const box = mark.getBoundingClientRect();
      x = box.x + box.width / 2;
      y = box.y + box.height / 2;
    }
    place(x, y);
  };
  let lit = null;
  const hide = () => {
    tip.hidden = true;
    if (lit) lit.classList.remove("lit");
    lit = null;
  };
  const under = (target) => (target instanceof Element ? target.closest("[data-tip]") : null);
  document.addEventListener("pointermove", (event) => {
    const mark = under(event.target);
    if (mark) show(mark, event.clientX, event.clientY);
    else if (!lit) tip.hidden = true;
  });
  document.addEventListener("pointerdown", (event) => { if (!under(event.target)) hide(); });
  document.addEventListener("focusin", (event) => {
    const mark = event.target.querySelector ? event.target.matches("a") && event.target.querySelector("[data-tip]") : null;
    if (mark) show(mark);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { hide(); return; }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches || !event.target.matches("svg[tabindex]")) return;
    const marks = [...event.target.querySelectorAll("[data-tip]")];
    if (!marks.length) return;
    event.preventDefault();
    const next = marks[(marks.indexOf(lit) + step + marks.length) % marks.length] || marks[0];
    if (lit) lit.classList.remove("lit");
    lit = next;
    lit.classList.add("lit");
    show(lit);
  });

  // A word in the box keeps the rows of its table that hold it.
  for (const box of document.querySelectorAll("input.filter")) {
    box.closest(".controls").hidden = false;
    const table = document.getElementById(box.dataset.filters);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
})();
