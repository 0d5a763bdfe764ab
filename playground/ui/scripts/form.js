// The form: examples that never overwrite a prompt, the keyboard, focus that stays at Run and Stop, one place that says
// what happens, and the mark of answers to an earlier prompt.
(() => {
  const prompt = () => document.querySelector("#prompt textarea");
  const shown = (button) => button && button.offsetParent !== null && !button.disabled;
  const usable = (id) => { const button = document.querySelector(`button#${id}`); return shown(button) ? button : null; };

  // As if typed, so that undo takes it back.
  const type = (box, text) => {
    box.focus();
    box.select();
    if (!document.execCommand("insertText", false, text)) {
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };

  const said = { status: "", alert: "" };
  const say = (text, kind = "status") => {
    const place = document.querySelector(kind === "alert" ? "#said-alert" : "#said");
    if (!place || said[kind] === text) return;
    said[kind] = text;
    place.textContent = text;
  };

  const mark = () => {
    const line = document.querySelector("#asked .asked-line");
    const box = prompt();
    const flag = line?.querySelector(".earlier");
    if (flag && box) flag.hidden = [line.dataset.asked, line.dataset.began].some((each) => each.trim() === box.value.trim());
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-try]");
    const box = prompt();
    if (!button || !box) return;
    const examples = [...document.querySelectorAll("[data-try]")].map((each) => each.dataset.try);
    if (box.value.trim() && !examples.includes(box.value)) {
      const kept = button.parentElement.querySelector("small");
      kept.hidden = false;
      say(kept.textContent);
      return;
    }
    type(box, button.dataset.try);
  });

  // A link to the comparison is copied; opening it in a tab of its own works as with any link.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[data-link]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !window.isSecureContext) return;
    event.preventDefault();
    const word = link.textContent;
    try { await navigator.clipboard.writeText(link.href); link.textContent = link.dataset.link; say(link.dataset.link); } catch { window.location.href = link.href; }
    setTimeout(() => { link.textContent = word; }, 1500);
  });

  document.addEventListener("input", (event) => { if (event.target.closest?.("#prompt")) mark(); });

  document.addEventListener("keydown", (event) => {
    const inside = (selector) => event.target.closest?.(selector);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && inside("#tabs")) {
      const button = inside("#reply") ? usable("send") : usable("run");
      if (!button) return;
      event.preventDefault();
      const back = event.target;
      back.blur?.(); // the box tells the page of its text first, so that nothing typed is left behind
      setTimeout(() => { button.click(); back.focus?.({ preventScroll: true }); }, 50);
    } else if (event.key === "Escape" && !event.defaultPrevented) {
      if (document.querySelector(":popover-open, dialog[open]")) return;
      if ([...document.querySelectorAll(".save-menu[open]")].some((menu) => menu.offsetParent)) return;
      if (inside("[role=listbox], #models, [aria-expanded=true]")) return;
      usable("stop")?.click();
    } else if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey) {
      if (inside("input, textarea, select, [contenteditable=true]")) return;
      const search = [...document.querySelectorAll("#history-search :is(input, textarea), #catalogue-search :is(input, textarea)")];
      const box = search.find((each) => each.offsetParent !== null);
      if (!box) return;
      event.preventDefault();
      box.focus();
    }
  }, true);

  // Run and Stop take each other's place; whoever pressed one with the keyboard stays there.
  let last = null;
  document.addEventListener("focusin", (event) => { last = event.target; });
  // What is hidden loses the focus when it is drawn next, after the change that hid it was seen.
  document.addEventListener("focusout", (event) => {
    if (!event.relatedTarget && ["run", "stop"].includes(event.target.id)) setTimeout(() => keepFocus());
  });
  const keepFocus = () => {
    if (document.activeElement && document.activeElement !== document.body) return;
    if (last?.id !== "run" && last?.id !== "stop") return;
    (usable("run") || usable("stop"))?.focus({ preventScroll: true });
  };

  // Gradio calls the buttons in the picker of models "Remove 0", "Remove 1".
  let named = false;
  const nameRemovers = () => {
    const words = document.querySelector(".language[data-remove]")?.dataset.remove;
    for (const token of words ? document.querySelectorAll(":is(#models, #suite-models) .token") : []) {
      const button = token.querySelector(".token-remove"), name = token.querySelector("span")?.textContent.trim();
      if (!button || !name) continue;
      named = true;
      const told = words.replace("{model}", () => name);
      if (button.title === told) continue;
      button.title = told;
      button.setAttribute("aria-label", told);
    }
  };

  const look = () => {
    const told = document.querySelector("#notice [data-say]");
    say(told?.textContent ?? "", told?.dataset.say ?? "status");
    mark();
    keepFocus();
  };
  // What is said elsewhere on the page: a region that is put into it together with its words is not read by every reader.
  const elsewhere = (node) => {
    const found = node.closest("[data-say]") ?? node.querySelector("[data-say]");
    if (found && found.offsetParent !== null && !found.closest("#notice")) say(found.textContent, found.dataset.say);
  };
  new MutationObserver((changes) => {
    let here = false, picked = !named;
    const places = new Set();
    for (const { target, addedNodes } of changes) {
      const element = target.nodeType === Node.TEXT_NODE ? target.parentElement : target;
      if (!element?.closest) continue;
      here ||= element.closest("#notice, #asked, #go") !== null;
      picked ||= element.closest("#models, #suite-models") !== null;
      if (element.closest(".panel, #said, #said-alert")) continue;
      const told = element.closest("[data-say]");
      if (told) places.add(told);
      for (const node of addedNodes) if (node.nodeType === Node.ELEMENT_NODE) places.add(node);
    }
    if (here) look();
    if (picked) nameRemovers();
    places.forEach((each) => { if (each.isConnected && each.closest("#tabs")) elsewhere(each); });
  }).observe(document, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["disabled", "class", "style"] });
  window.playground = { ...window.playground, type, say };
})();
