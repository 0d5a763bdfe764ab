// Answers that grow: the app sends what has changed of each panel (ui/watching.py), and this puts it in place. A connection
// that broke is made again, by the browser or here, and everything is shown anew; at the end the app is asked for the rest.
(() => {
  const AGAIN_MS = 2000, MOST_MS = 15_000, LATER_MS = 50, REST_MS = 5000, MOST_REST_MS = 60_000;
  let stream = null;
  let timer = 0;

  const parsed = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };
  // What is alike stays, so that what a reader has chosen or opened in it does.
  const alike = (old, now) => {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) { old.replaceWith(now); return; }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    children(old, now);
  };
  const children = (old, now, from = 0) => {
    const before = [...old.childNodes].slice(from), wanted = [...now.childNodes];
    wanted.forEach((node, place) => (before[place] ? alike(before[place], node) : old.append(node)));
    before.slice(wanted.length).forEach((node) => node.remove());
  };

  const slots = () => document.querySelectorAll("#outputs > .slot");
  const grow = (change) => {
    const panel = slots()[change.column]?.querySelector(".panel");
    if (!panel) return false;
    if (change.panel !== undefined) {
      alike(panel, parsed(change.panel).firstElementChild);
      return true;
    }
    const answer = panel.querySelector(".answer");
    if (change.state !== undefined) children(panel.querySelector(".state"), parsed(change.state));
    if (change.thinking !== undefined) {
      const old = answer.querySelector(":scope > .thinking"), now = parsed(change.thinking).firstElementChild;
      if (old && now) alike(old, now);
      else if (now) answer.prepend(now);
      else old?.remove();
    }
    if (change.blocks) children(answer.querySelector(":scope > .rendered"), parsed(change.blocks[1]), change.blocks[0]);
    if (change.raw) children(panel.querySelector(":scope > .raw"), parsed(change.raw[1]), change.raw[0]);
    return true;
  };

  const close = () => {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  };
  // The page is told to watch something else, or nothing, when the rest has come; it is asked for again if that was lost.
  const over = (id, wait) => {
    window.playground.over(id);
    if (wait < MOST_REST_MS) timer = setTimeout(() => over(id, wait * 2), wait);
  };
  const open = (id, wait) => {
    close();
    const mine = stream = new EventSource(new URL(`watch/${encodeURIComponent(id)}`, document.baseURI));
    const again = (later) => {
      if (stream !== mine) return;
      close();
      timer = setTimeout(() => open(id, Math.min(MOST_MS, wait * 2)), later);
    };
    mine.addEventListener("grow", ({ data }) => {
      if (stream !== mine) return;
      const left = JSON.parse(data).filter((change) => !grow(change));
      if (left.length) again(LATER_MS); // its columns are still being drawn
    });
    mine.addEventListener("told", ({ data }) => {
      const told = document.querySelector("#notice [data-say]");
      const now = parsed(JSON.parse(data)).firstElementChild;
      if (stream === mine && told && now) alike(told, now);
    });
    mine.addEventListener("end", () => {
      if (stream !== mine) return;
      close();
      over(id, REST_MS);
    });
    mine.addEventListener("busy", () => again(wait));
    mine.addEventListener("ending", () => again(wait)); // until there is an app again
    // The browser tries again by itself, but not after an answer that was refused.
    mine.addEventListener("error", () => { if (mine.readyState === EventSource.CLOSED) again(wait); });
  };
  const watch = (text) => {
    const [id] = String(text ?? "").split(" ");
    if (id) open(id, AGAIN_MS);
    else close();
  };
  window.playground = { ...window.playground, watch };
})();
