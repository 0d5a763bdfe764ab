// Habits of the page: a Copy button in every panel, a row of the catalogue shows its model, a file fills a box.
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
  const say = (button, word) => {
    button.textContent = word;
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  // Without HTTPS (a laptop's page opened from another machine) there is no clipboard API.
  const oldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const text = button.closest(".panel").querySelector(".answer").textContent;
    try {
      if (navigator.clipboard && window.isSecureContext) await navigator.clipboard.writeText(text);
      else if (!oldWay(text)) throw new Error("refused");
      say(button, "Copied");
    } catch {
      say(button, oldWay(text) ? "Copied" : "Select and copy by hand");
    }
  });
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
