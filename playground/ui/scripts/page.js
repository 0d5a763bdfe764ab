// Habits of the page: a row of the catalogue shows its model, a file fills a box.
(() => {
  // In another site's frame a browser may refuse storage; the history then lasts as long as the page.
  try {
    window.localStorage.length;
  } catch {
    const kept = new Map();
    const storage = {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, String(value)),
      removeItem: (name) => void kept.delete(name),
    };
    Object.defineProperty(window, "localStorage", { value: storage });
  }
  document.addEventListener("click", (event) => {
    const name = event.target.closest?.("[data-row]")?.querySelector("[data-pick]");
    const box = document.querySelector("#pick-model textarea, #pick-model input");
    if (!name || !box) return;
    box.value = name.dataset.pick;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => document.querySelector("#model-detail")?.scrollIntoView({ behavior: "smooth" }), 400);
  });
  // A file of the visitor's own is read here, in the browser, into the box that it belongs to.
  document.addEventListener("change", async (event) => {
    const picker = event.target.closest?.("input[data-fill]");
    const box = picker && document.querySelector(picker.dataset.fill);
    if (!box || !picker.files.length) return;
    box.value = await picker.files[0].slice(0, 100_001).text();
    box.dispatchEvent(new Event("input", { bubbles: true }));
    picker.value = "";
  });
})();
