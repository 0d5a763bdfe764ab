// Popovers (receipts, menus) open at what opened them, in the coordinates of the page: in a frame that grows with its
// content, the middle of the window is far off screen. What is longer than the room below or above is scrolled in
// itself: such a frame shows nothing beyond its end. Arrow keys go through a menu.
(() => {
  const EDGE = 8, GAP = 4, LEAST = 200;
  const openerOf = (popover, event) =>
    event.source ?? [...document.querySelectorAll(`[popovertarget="${CSS.escape(popover.id)}"]`)]
      .find((each) => !popover.contains(each));
  const place = (popover, opener) => {
    popover.style.maxHeight = "";
    const at = opener.getBoundingClientRect();
    const width = popover.offsetWidth, height = popover.offsetHeight;  // none before it is shown
    const left = width ? Math.max(EDGE, Math.min(at.left, document.documentElement.clientWidth - width - EDGE)) : EDGE;
    const below = window.innerHeight - at.bottom - GAP - EDGE, above = at.top - GAP - EDGE;
    const down = height <= below || (height > above && below >= above);
    const room = Math.max(LEAST, down ? below : above);
    const top = down ? at.bottom + GAP : at.top - Math.min(height, room) - GAP;
    Object.assign(popover.style, {
      position: "absolute", inset: "auto", margin: "0", maxHeight: height > room ? `${room}px` : "",
      left: `${left + window.scrollX}px`, top: `${Math.max(EDGE, top + window.scrollY)}px`,
    });
  };
  // Before it is shown, so that giving it the focus scrolls nowhere; and again when its size is known.
  const moved = (event) => {
    const popover = event.target;
    if (event.newState !== "open" || !popover.matches?.(".slip[popover], .menu[popover]")) return;
    const opener = openerOf(popover, event);
    if (opener) place(popover, opener);
  };
  document.addEventListener("beforetoggle", moved, true);
  document.addEventListener("toggle", moved, true);
  document.addEventListener("toggle", (event) => {
    const first = event.newState === "open" && event.target.matches?.(".menu[popover]") && event.target.querySelector("button");
    if (first) first.focus({ preventScroll: true });
  }, true);
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.(".menu[popover]");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!menu || !step) return;
    const buttons = [...menu.querySelectorAll("button")];
    event.preventDefault();
    buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length].focus();
  });

  // What saves is a <details>, so that it works in every frame; it closes as a popover would.
  const opened = () => [...document.querySelectorAll(".save-menu[open]")].filter((menu) => menu.offsetParent);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    for (const menu of opened()) {
      event.preventDefault();
      menu.open = false;
      menu.querySelector("summary").focus({ preventScroll: true });
    }
  }, true);
  document.addEventListener("pointerdown", (event) => {
    for (const menu of opened()) if (!menu.contains(event.target)) menu.open = false;
  }, true);
})();
