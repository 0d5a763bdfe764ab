// Token view and prompt: one popover is filled from the token that was pressed; arrow keys go from token to token.
(() => {
  const share = (p) => {
    const value = p * 100;
    return value >= 99.995 ? "100 %" : value >= 0.05 ? `${value.toFixed(1)} %` : p === 0 ? "0 %" : `${value.toExponential(0)} %`;
  };
  const put = (root, name, text) => {
    const place = root.querySelector(`[data-put="${name}"]`);
    if (place) place.textContent = text;
  };
  const seen = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");

  const list = (slip, token) => {
    const template = slip.querySelector("template");
    const items = JSON.parse(token.dataset.others).map(([id, text, p]) => {
      const item = template.content.firstElementChild.cloneNode(true);
      put(item, "text", seen(text));
      put(item, "share", share(p));
      item.querySelector(".bar").style.width = `${Math.max(1, p * 100)}%`;
      item.classList.toggle("is-own", String(id) === token.dataset.id);
      const button = item.querySelector("[data-do]");
      if (button) {
        button.dataset.column = token.dataset.column;
        button.dataset.at = token.dataset.at;
        button.dataset.token = id;
        button.setAttribute("aria-label", `${button.title}: ${seen(text)}`);
      }
      return item;
    });
    slip.querySelector("ol").replaceChildren(...items);
  };

  // At its token, wherever the page stands: in a frame that grows with its content the middle may be out of sight.
  const place = (slip, token) => {
    const at = token.getBoundingClientRect();
    const width = slip.offsetWidth;
    slip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8))}px`;
    const below = at.bottom + 6 + slip.offsetHeight <= window.innerHeight;
    slip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - slip.offsetHeight - 6)}px`;
  };

  const open = (token) => {
    const slip = token.closest("[data-tokens]").querySelector(".token-slip");
    put(slip, "name", seen(token.dataset.name));
    put(slip, "id", token.dataset.id);
    put(slip, "p", share(Number(token.dataset.p)));
    put(slip, "rank", Number(token.dataset.rank).toLocaleString("en"));
    put(slip, "entropy", token.dataset.entropy);
    slip.setAttribute("aria-label", token.dataset.name);
    list(slip, token);
    if (!slip.matches(":popover-open")) slip.showPopover();
    slip.opener = token;
    place(slip, token);
  };

  document.addEventListener("click", (event) => {
    const token = event.target.closest?.("button.tok[data-at]");
    if (token) {
      open(token);
      return;
    }
    const slip = event.target.closest?.(".token-slip [data-do]")?.closest(".token-slip");
    if (slip) slip.hidePopover();
  });
  document.addEventListener("toggle", (event) => {
    if (!event.target.matches?.(".token-slip")) return;
    if (event.newState === "closed" && event.target.contains(document.activeElement)) event.target.opener?.focus();
  }, true);

  const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const token = event.target.closest?.(".token-run .tok, .prompt-run .piece");
    if (!step || !token || event.ctrlKey || event.altKey || event.metaKey) return;
    const run = token.closest(".token-run, .prompt-run");
    const row = token.closest(".row-0, .row-1")?.className;
    const all = [...run.querySelectorAll(row ? `.${row} .tok` : ".tok, .piece")].filter((each) => each.offsetParent);
    const next = all[Math.max(0, Math.min(all.length - 1, all.indexOf(token) + step))];
    event.preventDefault();
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  // From the one row to the other: the tokens over the same characters.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const token = event.target.closest?.(".token-run.is-aligned .tok");
    const other = token?.closest(".pair").querySelector(event.key === "ArrowDown" ? ".row-1 .tok" : ".row-0 .tok");
    if (!other) return;
    event.preventDefault();
    token.tabIndex = -1;
    other.tabIndex = 0;
    other.focus();
  });
})();
