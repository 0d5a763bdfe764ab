// The History tab: sends what was pressed, says times as the visitor's clock does, keeps focus where it was when the
// list or what is open is drawn anew, and opens the boxes for a title and for deleting in their place.
(() => {
  let focused = null;

  const send = (what) => {
    const box = document.querySelector("#history-action :is(textarea, input)");
    if (!box) return;
    box.value = JSON.stringify({ ...what, at: Date.now() }); // no two are alike, or the second would be no change
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };

  // The page's language, as it is written where the visitor is.
  const locale = () => {
    const said = document.documentElement.lang;
    return navigator.language.startsWith(said) ? navigator.language : said || undefined;
  };

  const local = (root) => {
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.dataset.local = "yes";
      time.textContent = at.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
    }
  };

  const box = (name) => document.querySelector(`#history-opened .in-place[data-for="${name}"]`);
  const opener = (name) => document.querySelector(`#history-opened button[data-history="${name}"][aria-expanded]`);
  const expand = (name, on) => {
    const place = box(name);
    if (!place) return;
    place.hidden = !on;
    opener(name)?.setAttribute("aria-expanded", String(on));
    if (on) (place.querySelector("input") || place.querySelector("[data-history=never-mind]")).focus();
    else opener(name)?.focus();
  };

  const title = (id) => send({ do: "save-title", id, text: box("rename").querySelector("input").value.slice(0, 300) });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-history]");
    if (!button) return;
    const what = button.dataset.history;
    const id = button.dataset.id || button.closest(".opened")?.dataset.id || "";
    if (what === "rename" || what === "ask-delete") {
      const other = what === "rename" ? "ask-delete" : "rename";
      if (!box(other)?.hidden) expand(other, false);
      expand(what, box(what).hidden);
      return;
    }
    if (what === "never-mind") { expand(button.closest(".in-place").dataset.for, false); return; }
    if (what === "save-title") { focused = { what: "rename", id: "" }; title(id); return; }
    if (what === "close" || what === "delete") {
      const open = document.querySelector("#history-list .entry.is-open [data-history=open]");
      focused = { what: "open", id: what === "close" ? open?.dataset.id || "" : "", list: true };
    } else if (what === "open") {
      focused = { what, id: button.dataset.id, list: true };
    } else {
      focused = { what, id: button.dataset.id || "", list: Boolean(button.closest("#history-list")) };
    }
    send({ do: what, id });
  });

  document.addEventListener("keydown", (event) => {
    const place = event.target.closest?.("#history-opened .in-place");
    if (!place) return;
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      expand(place.dataset.for, false);
    } else if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      focused = { what: "rename", id: "" };
      title(event.target.closest(".opened").dataset.id);
    }
  }, true);

  // Drawing anew drops the focus onto the page; it goes back to the same button, or to the list.
  const restore = () => {
    if (!focused || (document.activeElement && document.activeElement !== document.body)) return;
    const root = document.querySelector(focused.list ? "#history-list" : "#history-opened");
    const same = [...(root?.querySelectorAll(`[data-history="${focused.what}"]`) || [])];
    const found = same.find((each) => !focused.id || each.dataset.id === focused.id) || same[0];
    const shown = found && found.offsetParent !== null ? found : document.querySelector("#history-opened .back, #history-search :is(input, textarea)");
    shown?.focus({ preventScroll: true });
  };

  let waiting = false;
  new MutationObserver((changes) => {
    const ours = changes.some((change) => {
      const place = change.target.nodeType === Node.ELEMENT_NODE ? change.target : change.target.parentElement;
      return place?.closest("#history-view") || [...change.addedNodes].some((node) => node.querySelector?.("#history-view"));
    });
    if (!ours || waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const place of document.querySelectorAll("#history-list, #history-opened")) local(place);
      restore();
    });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
