// Tabs that the app brings to the front: their ids, from the outside in, and a number that makes each time another text.
(() => {
  const TRIES = 40, AGAIN_MS = 25;
  const press = (ids, tries = TRIES) => {
    const [id, ...rest] = ids;
    if (!id) return;
    const tab = document.querySelector(`[role=tab][data-tab-id="${CSS.escape(id)}"]`);
    if (!tab) { // the tabs inside of one that was never seen are drawn a moment later
      if (tries) setTimeout(() => press(ids, tries - 1), AGAIN_MS);
      return;
    }
    if (tab.getAttribute("aria-selected") !== "true") tab.click();
    press(rest);
  };
  const atFront = (id) => document.querySelector(`[role=tab][data-tab-id="${CSS.escape(id)}"][aria-selected=true]`) !== null;
  window.playground = { ...window.playground, atFront, front: (text) => press(String(text ?? "").split(" ").slice(0, -1)) };
})();
