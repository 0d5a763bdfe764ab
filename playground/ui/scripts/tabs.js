// The keyboard: arrows go to the next tab and show it, Home and End to the first and the last; and the row of columns, which
// scrolls on a phone, can be reached.
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
  const reach = () => {
    const columns = document.querySelector("#outputs");
    if (!columns) return;
    const scrolls = columns.scrollWidth > columns.clientWidth;
    if (scrolls === columns.hasAttribute("tabindex")) return;
    const label = document.querySelector("[role=tab][data-tab-id=outputs]")?.textContent.trim();
    for (const [name, value] of Object.entries({ tabindex: "0", role: "group", "aria-label": label })) {
      if (scrolls && value) columns.setAttribute(name, value);
      else columns.removeAttribute(name);
    }
  };
  new ResizeObserver(reach).observe(document.documentElement);
  new MutationObserver((changes) => {
    // Not with each piece of an answer that grows: asking for a width makes the browser lay the page out at once.
    const layout = ({ type, target }) => target.matches?.("#outputs, #outputs > *") || (type === "attributes" && target.matches?.("#views *"));
    if (changes.some(layout)) reach();
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
})();
