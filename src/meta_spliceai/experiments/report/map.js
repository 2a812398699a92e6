"use strict";
(() => {
  // The saturation map.
  const holder = document.getElementById("maps");
  if (!holder) return;
  const maps = JSON.parse(holder.textContent);
  const svgSpace = "http://www.w3.org/2000/svg";
  const signed = (value) =>
    value === null ? "no value" : (value > 0 ? "+" : "") + value.toFixed(3).replace("-", "−");

  for (const section of document.querySelectorAll(".mapped")) {
    const data = maps[section.dataset.map];
    const select = section.querySelector("select.background");
    const readout = section.querySelector(".readout");
    const layouts = [...section.querySelectorAll(".layout")];
    const radios = [...section.querySelectorAll("input[type=radio]")];
    section.querySelector(".controls").hidden = false;

    const show = (chosen) => layouts.forEach((layout, i) => { layout.hidden = i !== chosen; });
    radios.forEach((radio, i) => radio.addEventListener("change", () => show(i)));
    show(0);
    for (const layout of layouts) layout.querySelector("h3").className = "hide";

    const shade = (value, limit) =>
      Math.max(0, Math.min(2 * data.steps, data.steps + Math.floor((value / limit) * data.steps + 0.5)));
    const partClass = { train: "p-train", validation: "p-val", test: "p-test" };

    const paint = () => {
      const table = data.backgrounds[select.value];
      layouts.forEach((layout, l) => {
        const { words, length } = data.layouts[l];
        layout.querySelectorAll(".cells").forEach((group, p) => {
          const panel = data.panels[p];
          [...group.children].forEach((cell, c) => {
            const word = Math.floor(c / data.sites.length);
            const site = c % data.sites.length;
            const value = table.values[l][p][word][site];
            let name;
            if (value === null) {
              name = table.wild.slice(site, site + length).join("") === words[word] ? "qw" : "qn";
            } else {
              name = `q${shade(value, panel.limit)}`;
              if (panel.learned && table.seen[l][word][site] === "1") name += " faded";
            }
            cell.setAttribute("class", name);
          });
        });
        layout.querySelectorAll(".ruler .base").forEach((letter, i) => { letter.textContent = table.wild[i]; });
        layout.querySelectorAll(".parts rect").forEach((mark, i) => {
          mark.setAttribute("class", partClass[table.parts[i]] || "p-none");
        });
      });
    };
    select.addEventListener("change", paint);

    layouts.forEach((layout, l) => {
      const svg = layout.querySelector("svg");
      const number = (name) => Number(svg.getAttribute(`data-${name}`));
      const geometry = {
        row: number("row"), top: number("top"), block: number("block"), left: number("left"), cell: number("cell"),
      };
      const { words, length } = data.layouts[l];
      const cursor = svg.querySelector(".cursor");
      let word = 0, site = 0, resting = "";
      const say = () => {
        const table = data.backgrounds[select.value];
        cursor.replaceChildren(...data.panels.map((_, p) => {
          const frame = document.createElementNS(svgSpace, "rect");
          frame.setAttribute("x", geometry.left + geometry.cell * site - 0.5);
          frame.setAttribute("y", geometry.top + geometry.block * p + geometry.row * word - 0.5);
          frame.setAttribute("width", geometry.cell);
          frame.setAttribute("height", geometry.row);
          return frame;
        }));
        const wild = table.wild.slice(site, site + length).join("");
        const head = document.createElement("strong");
        head.textContent =
          `Background ${select.value}, site ${data.sites[site]}, ${wild} to ${words[word]}` +
          (table.seen[l][word][site] === "1" ? " (not a test variant)" : "");
        const values = data.panels.map((panel, p) => {
          const item = document.createElement("span");
          item.textContent = `${panel.title}: ${signed(table.values[l][p][word][site])}`;
          return item;
        });
        if (wild === words[word]) {
          values.splice(0, values.length, document.createElement("span"));
          values[0].textContent = "the background's own sequence";
        }
        readout.replaceChildren(head, ...values);
      };
      svg.addEventListener("pointermove", (event) => {
        // A page that scrolls under a resting pointer sends moves too; those must not take over from the keyboard.
        const spot = `${event.screenX} ${event.screenY}`;
        if (spot === resting) return;
        resting = spot;
        const group = event.target.closest ? event.target.closest(".cells") : null;
        if (!group || event.target === group) return;
        const place = [...group.children].indexOf(event.target);
        if (place < 0) return;
        const w = Math.floor(place / data.sites.length), s = place % data.sites.length;
        if (w === word && s === site && cursor.firstChild) return;
        word = w; site = s;
        say();
      });
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      svg.addEventListener("keydown", (event) => {
        const step = steps[event.key];
        if (!step) return;
        event.preventDefault();
        word = Math.max(0, Math.min(words.length - 1, word + step[0]));
        site = Math.max(0, Math.min(data.sites.length - 1, site + step[1]));
        say();
      });
      svg.addEventListener("focus", say);
      select.addEventListener("change", () => { if (cursor.firstChild) say(); });
    });
  }
})();
