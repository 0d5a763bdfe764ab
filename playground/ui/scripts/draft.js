// What the page keeps in its browser: the form and the id of the comparison on show, for a reload and for a lost
// connection. A tab has its own draft; a new tab begins with the last one's form. The address may say more: ?c=ID shows a
// comparison, ?prompt=…&models=a,b fills the form, ?tab=NAME is the tab at the front. Nothing here runs a prompt.
(() => {
  const KEY = "open-model-playground-draft";
  const NAMES = [
    "shown", "models", "changes", "mode", "prompt", "system", "tokens", "temperature", "top_k", "top_p", "min_p", "penalty",
    "seed", "stop", "reuse",
  ];
  const TABS = ["compare", "prompts", "measure", "models", "history", "learn"];
  const stores = () => {
    const found = [];
    for (const name of ["sessionStorage", "localStorage"]) {
      try { found.push(window[name]); } catch { found.push(null); }
    }
    return found;
  };
  const parsed = (text) => { try { return JSON.parse(text) ?? {}; } catch { return {}; } };
  const [own, common] = stores();
  const kept = own?.getItem(KEY);
  const before = kept ? parsed(kept) : { ...parsed(common?.getItem(KEY)), shown: "", changes: "" };
  let open = false;

  const read = () => {
    const asked = new URLSearchParams(window.location.search);
    const draft = { ...before };
    if (asked.has("c")) Object.assign(draft, { shown: asked.get("c"), linked: draft.shown !== asked.get("c") });
    if (asked.has("prompt") || asked.has("models")) draft.shown = asked.get("c") ?? "";
    if (asked.has("prompt")) draft.prompt = asked.get("prompt");
    if (asked.has("models")) {
      Object.assign(draft, { models: asked.get("models").split(",").map((name) => name.trim()).filter(Boolean), changes: "" });
    }
    draft.tab = TABS.includes(asked.get("tab")) ? asked.get("tab") : "";
    return JSON.stringify(draft);
  };

  const restoring = () => (!open && JSON.parse(read()).shown ? "restoring" : "");

  const address = (changes) => {
    const url = new URL(window.location.href);
    for (const [name, value] of Object.entries(changes)) {
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    return url;
  };

  const keep = (values) => {
    if (!open) return;
    const draft = Object.fromEntries(NAMES.map((name, place) => [name, values[place] ?? null]));
    const text = JSON.stringify(draft);
    try { own?.setItem(KEY, text); common?.setItem(KEY, text); } catch { /* full, or refused: the page works without */ }
    const asked = new URLSearchParams(window.location.search);
    // An address that filled the form, or another comparison than the one on show now, would come back at a reload.
    if (asked.has("prompt") || asked.has("models") || (asked.has("c") && asked.get("c") !== draft.shown)) {
      window.history.replaceState(window.history.state, "", address({ prompt: "", models: "", c: "" }));
    }
  };

  // Tabs are steps of the browser's history, so that Back goes to the tab before and does not leave the app.
  const buttons = () => [...document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")];
  const front = () => TABS[buttons().findIndex((each) => each.getAttribute("aria-selected") === "true")] ?? "compare";
  let at = "";
  let going = false;
  const watch = () => {
    const now = front();
    if (!open || now === at) return;
    const first = at === "";
    at = now;
    if (first || going) return;
    window.history.pushState({ tab: now }, "", address({ tab: now === "compare" ? "" : now }));
  };
  window.addEventListener("popstate", () => {
    const wanted = new URLSearchParams(window.location.search).get("tab") || "compare";
    going = true;
    buttons()[TABS.indexOf(wanted)]?.click();
    setTimeout(() => { at = front(); going = false; }, 200);
  });
  // What a reader wrote while the page was still opening stands: the draft that comes then does not replace it.
  const written = new Map();
  document.addEventListener("input", ({ target }) => { if (!open && "value" in target) written.set(target, target.value); });
  const opened = () => {
    open = true;
    for (const [field, value] of written) {
      if (!field.isConnected || field.value === value || field.type === "checkbox" || field.type === "radio") continue;
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    written.clear();
    // A reader may have gone to another tab before the page was there for all of it.
    at = new URLSearchParams(window.location.search).has("tab") ? front() : "compare";
    watch();
    const tabs = document.querySelector("#tabs > .tab-wrapper");
    if (tabs) {
      new MutationObserver(watch).observe(tabs, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    }
  };
  window.playground = { ...window.playground, draft: { read, keep, opened, restoring } };
})();
