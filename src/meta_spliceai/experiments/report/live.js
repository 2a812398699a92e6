"use strict";
(() => {
  // Asks now and then whether the site has changed; runs that are being worked on move without a reload.
  const lamp = document.getElementById("live");
  let version = null;
  const look = async () => {
    try {
      const answer = await fetch("state.json", { cache: "no-store" });
      const state = await answer.json();
      if (version !== null && state.version !== version) { location.reload(); return; }
      version = state.version;
      for (const run of state.running) {
        for (const box of document.querySelectorAll("[data-run]")) {
          if (box.dataset.run !== run.name) continue;
          const bar = box.querySelector("progress");
          if (run.share === null) bar.removeAttribute("value"); else bar.value = run.share;
          if (run.words) box.querySelector(".said").textContent = run.words;
        }
      }
      lamp.textContent = state.error ? "cannot be built" : "live";
      lamp.title = state.error;
      lamp.classList.toggle("off", Boolean(state.error));
    } catch {
      lamp.textContent = "the server is gone";
      lamp.classList.add("off");
    }
    setTimeout(look, 2000);
  };
  look();
})();
