// Tabs by the keyboard: arrows go to the next one and show it, Home and End to the first and the last.
(() => {
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    const row = tab?.closest("[role=tablist]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const tabs = [...row.querySelectorAll("[role=tab]")].filter((each) => each.offsetParent !== null && !each.disabled);
    const last = tabs.length - 1, at = tabs.indexOf(tab);
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    tabs[to].focus();
    tabs[to].click();
  });
})();
