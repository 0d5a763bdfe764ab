// What can be done with an answer without the app: copy, raw or rendered, full width, pin, move, fold; and what a reader
// has opened or chosen in one stays so while more of it comes.
//
// The page puts the app's HTML over what stands there and takes every attribute away that is not in it. So what belongs to
// the reader is kept at the slot around a panel, which is never redrawn (in a stored comparison: at the panel).
(() => {
  const LINES = 24;
  const LIVE = ".is-idle, .is-queued, .is-preparing, .is-loading, .is-prefill, .is-token";
  // Gradio gives the class to a component's outer and to its inner element: the outer one has a place among the columns.
  const holderOf = (panel) => panel.closest(".columns > .slot") ?? panel;
  const panelIn = (holder) => (holder.matches(".panel") ? holder : holder.querySelector(".panel"));
  const kept = new WeakMap(); // holder -> Map of data-keep -> open

  // -- copying
  const oldWay = (text) => { // Without HTTPS (a laptop's page opened from another machine) there is no clipboard API.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.cssText = "position:absolute;opacity:0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  const copy = async (button, text) => {
    let done;
    try {
      if (navigator.clipboard && window.isSecureContext) { await navigator.clipboard.writeText(text); done = true; }
      else done = oldWay(text);
    } catch { done = oldWay(text); }
    const word = button.textContent;
    button.textContent = done ? "✓" : "✗";
    setTimeout(() => { button.textContent = word; }, 1500);
  };

  // -- raw or rendered
  const remembered = () => { try { return localStorage.getItem("answers"); } catch { return null; } };
  const showAll = (how) => { document.documentElement.dataset.answers = how; };
  showAll(remembered() === "raw" ? "raw" : "rendered");

  // -- order
  const slots = (holder) => [...holder.parentElement.children].filter((each) => panelIn(each) && each.offsetParent !== null);
  const move = (holder, step) => {
    const shown = slots(holder).map((each, place) => [Number(each.style.order || 0), place, each]);
    const sorted = shown.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((each) => each[2]);
    const at = sorted.indexOf(holder), to = at + step;
    if (to < 0 || to >= sorted.length) return;
    [sorted[at], sorted[to]] = [sorted[to], sorted[at]];
    sorted.forEach((each, place) => { each.style.order = place; });
    holder.scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  // -- folding
  const limit = (answer) => LINES * (parseFloat(getComputedStyle(answer).lineHeight) || 23);
  const fold = (holder, folded) => {
    holder.toggleAttribute("data-folded", folded);
    const button = panelIn(holder)?.querySelector(".fold");
    if (!button) return;
    button.textContent = folded ? button.dataset.more : button.dataset.less;
    button.setAttribute("aria-label", folded ? button.dataset.moreLabel : button.dataset.lessLabel);
    button.setAttribute("aria-expanded", String(!folded));
  };
  const measure = (answer) => {
    const panel = answer.closest(".panel");
    if (!panel?.querySelector(".fold") || !answer.offsetParent || panel.matches(LIVE)) return;
    const holder = holderOf(panel);
    if (holder.hasAttribute("data-long")) return;
    if (answer.scrollHeight <= limit(answer) * 1.2) return;
    holder.setAttribute("data-long", "");
    // Who has watched it grow is reading it: it stays open, and nothing jumps.
    fold(holder, !holder.hasAttribute("data-watched"));
  };
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => measure(entry.target)));
  const observed = new WeakSet();

  // -- chosen text
  let chosen = null;
  const placeIn = (root, offset) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (offset <= node.length) return [node, offset];
      offset -= node.length;
    }
    return null;
  };
  const offsetIn = (root, node, offset) => {
    const range = document.createRange();
    range.setStart(root, 0);
    range.setEnd(node, offset);
    return range.toString().length;
  };
  document.addEventListener("selectionchange", () => {
    const selection = document.getSelection();
    chosen = null;
    if (!selection?.rangeCount || selection.isCollapsed) return;
    const range = selection.getRangeAt(0), inside = range.commonAncestorContainer;
    const root = (inside.nodeType === 1 ? inside : inside.parentElement)?.closest(".panel .rendered, .panel .raw");
    if (!root) return;
    chosen = {
      root, text: range.toString(),
      from: offsetIn(root, selection.anchorNode, selection.anchorOffset),
      to: offsetIn(root, selection.focusNode, selection.focusOffset),
    };
  });
  const choose = () => {
    if (!chosen?.root.isConnected) return;
    const selection = document.getSelection();
    if (selection.toString() && selection.rangeCount && selection.getRangeAt(0).toString() === chosen.text) return;
    const [low, high] = [Math.min(chosen.from, chosen.to), Math.max(chosen.from, chosen.to)];
    if (chosen.root.textContent.slice(low, high) !== chosen.text) return;
    const from = placeIn(chosen.root, chosen.from), to = placeIn(chosen.root, chosen.to);
    if (from && to) selection.setBaseAndExtent(from[0], from[1], to[0], to[1]);
  };

  // -- after each change of a panel
  const settle = (holder) => {
    const panel = panelIn(holder);
    if (!panel) return;
    if (panel.matches(".is-idle, .is-queued")) {
      kept.delete(holder);
      for (const name of ["data-long", "data-folded", "data-watched"]) holder.removeAttribute(name);
    } else if (panel.matches(LIVE)) {
      for (const name of ["data-long", "data-folded"]) holder.removeAttribute(name);
      holder.setAttribute("data-watched", "");
    }
    const open = kept.get(holder);
    if (open) {
      for (const details of panel.querySelectorAll("details[data-keep]")) {
        const wanted = open.get(details.dataset.keep);
        if (wanted !== undefined && details.open !== wanted) details.open = wanted;
      }
    }
    const answer = panel.querySelector(".answer");
    if (answer && !observed.has(answer)) { observed.add(answer); sizes.observe(answer); }
    else if (answer && !panel.matches(LIVE)) requestAnimationFrame(() => measure(answer));
  };
  new MutationObserver((changes) => {
    const holders = new Set();
    for (const { target, addedNodes } of changes) {
      const element = target.nodeType === 1 ? target : target.parentElement;
      const holder = element?.closest(".columns > .slot") ?? element?.closest(".panel");
      if (holder) holders.add(holder);
      else for (const node of addedNodes) if (node.nodeType === 1) {
        for (const panel of node.matches(".panel") ? [node] : node.querySelectorAll(".panel")) holders.add(holderOf(panel));
      }
    }
    holders.forEach(settle);
    if (holders.size) choose();
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["open", "class"] });

  document.addEventListener("click", (event) => {
    const summary = event.target.closest?.(".panel details[data-keep] > summary");
    if (summary) {
      const details = summary.parentElement, holder = holderOf(details.closest(".panel"));
      if (!kept.has(holder)) kept.set(holder, new Map());
      kept.get(holder).set(details.dataset.keep, !details.open);
      return;
    }
    const button = event.target.closest?.("[data-do]");
    if (!button) return;
    const what = button.dataset.do;
    if (what === "raw-all") {
      const how = document.documentElement.dataset.answers === "raw" ? "rendered" : "raw";
      try { localStorage.setItem("answers", how); } catch { /* it then lasts as long as the page */ }
      for (const each of document.querySelectorAll("[data-view]")) each.removeAttribute("data-view");
      showAll(how);
      return;
    }
    if (what === "copy-code") {
      void copy(button, button.closest(".code-block").querySelector("pre").textContent.replace(/\n$/, ""));
      return;
    }
    const panel = button.closest(".panel");
    if (!panel) return;
    const holder = holderOf(panel);
    if (what === "copy") void copy(button, panel.querySelector(".raw").textContent);
    else if (what === "raw") {
      const now = holder.dataset.view ?? document.documentElement.dataset.answers;
      holder.dataset.view = now === "raw" ? "rendered" : "raw";
    } else if (what === "expand") holder.toggleAttribute("data-expanded");
    else if (what === "pin") holder.toggleAttribute("data-pinned");
    else if (what === "left") move(holder, -1);
    else if (what === "right") move(holder, 1);
    else if (what === "collapse") {
      fold(holder, !holder.hasAttribute("data-folded"));
      if (holder.hasAttribute("data-folded")) panel.scrollIntoView({ block: "nearest" });
    }
  });
})();
