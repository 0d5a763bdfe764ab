// A vote: its buttons, and 1, 2, 3 … on the keyboard while the bar is on the screen and nobody is typing.
(() => {
  const cast = (button) => {
    const bar = button.closest("[data-vote-on]");
    const box = document.querySelector("#vote-cast textarea, #vote-cast input");
    if (!bar || !box) return;
    const value = (name) => bar.querySelector(name)?.value ?? "";
    bar.querySelectorAll("[data-vote]").forEach((each) => { each.disabled = true; });
    // The time makes two equal votes two events.
    box.value = JSON.stringify({
      on: bar.dataset.voteOn, vote: button.dataset.vote,
      tag: value("[data-vote-tag]"), note: value("[data-vote-note]"), at: Date.now(),
    });
    box.dispatchEvent(new Event("input", { bubbles: true }));
    // Should no answer come (the connection is lost), one may try again.
    setTimeout(() => bar.querySelectorAll("[data-vote]").forEach((each) => { each.disabled = false; }), 5000);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-vote]");
    if (button && !button.disabled) cast(button);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !/^[1-9]$/.test(event.key)) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable], [role=listbox], [role=slider]")) return;
    const bar = [...document.querySelectorAll("[data-vote-on]")].find((each) => each.offsetParent !== null);
    const button = bar?.querySelector(`[data-vote][aria-keyshortcuts="${event.key}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    cast(button);
  });
})();
