// The Prompt set tab. Prompts are read from a file, in the browser, or typed, and kept for a reload; a suite that is shown
// is asked for what is new once a second while it goes on and somebody looks at it: a few rows of HTML, put in place one
// by one, so that what a reader opened, chose or has the focus at stays. Nothing here passes through gradio's events but
// what is pressed.
(() => {
  const KEY = "open-model-playground-prompt-set";
  const MOST_CHARS = 600_000, KEPT_CHARS = 200_000;
  const LOOK_MS = 1000, REST_MS = 6000, TYPED_MS = 500, SOUGHT_MS = 250, READ_MS = 600, MOUNT_MS = 300;
  let count = 0;
  let suite = null; // what is shown: its id, and what was asked for last
  let timer = 0, busy = false, again = false, stale = 0;

  const $ = (selector) => document.querySelector(selector);
  const box = () => $("#suite-text textarea");
  const frame = () => $("#suite-shown .suite");
  const say = (text) => window.playground.say?.(text);
  const set = (selector, value) => {
    const field = $(`${selector} :is(textarea, input)`);
    if (!field || field.value === value) return;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const send = (what) => { count += 1; set("#suite-action", JSON.stringify({ ...what, count })); };
  const store = (name) => { try { return window[name]; } catch { return null; } };
  const parsed = (text) => { try { return JSON.parse(text) ?? {}; } catch { return {}; } };

  // -- the prompts ----------------------------------------------------------------------------------------------

  let kept = { ...parsed(store("localStorage")?.getItem(KEY)), ...parsed(store("sessionStorage")?.getItem(KEY)) };
  const keep = (changes) => {
    kept = { ...kept, ...changes };
    for (const [where, what] of [["sessionStorage", kept], ["localStorage", { text: kept.text, file: kept.file }]]) {
      try { store(where)?.setItem(KEY, JSON.stringify(what)); } catch { /* full, or refused: the page works without */ }
    }
  };
  let typed = 0;
  const examples = () => [...document.querySelectorAll("#suite-examples [data-suite=example]")];
  const mark = () => {
    const clear = $("#suite-examples [data-suite=clear]");
    if (clear) clear.hidden = !box()?.value;
  };
  // Its file's name says how a text is read, as long as it begins as the file does.
  let head = "";
  const first = (text) => text.trimStart().split("\n", 1)[0];
  const changed = () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      const text = box()?.value ?? "";
      if (head === null) head = first(text);
      if (first(text) !== head) set("#suite-name", "");
      if (text.length <= KEPT_CHARS) keep({ text, file: $("#suite-name :is(textarea, input)")?.value ?? "" });
      mark();
      count += 1;
      set("#suite-look", String(count));
    }, TYPED_MS);
  };
  const fill = (text, file) => {
    head = first(text);
    set("#suite-name", file);
    const field = box();
    if (field && field.value !== text) {
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    changed();
  };
  const decoded = (bytes) => {
    const [a, b] = bytes;
    const name = a === 0xff && b === 0xfe ? "utf-16le" : a === 0xfe && b === 0xff ? "utf-16be" : "utf-8";
    return new TextDecoder(name).decode(bytes); // takes a byte order mark away
  };
  const opened = async (picker) => {
    const [file] = picker.files;
    if (!file) return;
    const large = picker.closest("[data-large]").dataset.large;
    if (file.size > 2 * MOST_CHARS) { say(large, "alert"); complain(large); picker.value = ""; return; }
    const text = decoded(new Uint8Array(await file.arrayBuffer()));
    picker.value = "";
    if (text.length > MOST_CHARS) { say(large, "alert"); complain(large); return; }
    fill(text, file.name);
  };
  const complain = (words) => {
    const place = $("#suite-examples small");
    if (!place) return;
    place.textContent = words;
    place.hidden = false;
  };

  // -- what is shown --------------------------------------------------------------------------------------------

  const seen = () => !document.hidden && frame()?.offsetParent !== null;
  const address = (id) => {
    const url = new URL(window.location.href);
    if (id) url.searchParams.set("suite", id);
    else url.searchParams.delete("suite");
    window.history.replaceState(window.history.state, "", url);
  };
  const look = (soon = 0) => { clearTimeout(timer); timer = setTimeout(ask, soon); };
  const ask = async () => {
    if (!suite || !frame()) return;
    if (busy) { again = true; return; }
    if (!seen()) { look(LOOK_MS); return; }
    busy = true;
    const { id, show, sort, words, page, against, after, mark: known } = suite;
    const asked = new URLSearchParams({ show, sort, words, page, against, after, mark: known });
    const mine = suite;
    let found = null, gone = "";
    try {
      const answer = await fetch(`suite/${encodeURIComponent(id)}/view?${asked}`, { cache: "no-store" });
      if (answer.ok) found = await answer.json();
      else if (answer.status === 404) gone = await answer.text();
    } catch { /* the connection is lost: asked again below */ }
    busy = false;
    if (suite !== mine || again) { again = false; look(); return; }
    if (gone) { lost(gone); return; }
    if (!found) { stale += 1; look(Math.min(LOOK_MS * 2 ** stale, 15_000)); return; }
    stale = 0;
    if (!drawn(found)) { suite = { ...suite, after: 0 }; look(); return; }
    suite.after = found.seq;
    if (found.status === "running") look(LOOK_MS);
    else if (found.status === "paused") look(REST_MS);
  };
  const lost = (words) => {
    const place = frame()?.querySelector(".suite-standing");
    if (place) { place.textContent = words; place.classList.add("problem"); }
    suite = null;
    keep({ suite: "" });
    address("");
  };
  // Times as the visitor's clock has them, in the page's language.
  const local = () => {
    const said = document.documentElement.lang;
    const locale = navigator.language.startsWith(said) ? navigator.language : said || undefined;
    for (const time of document.querySelectorAll(":is(#suite-entries, #suite-shown) time[datetime]:not([data-local])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.dataset.local = "yes";
      time.textContent = at.toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
    }
  };
  const put = (place, markup) => { if (place && place.innerHTML !== markup) place.innerHTML = markup; };
  const made = (markup) => {
    const holder = document.createElement("tbody");
    holder.innerHTML = markup;
    return holder.firstElementChild;
  };

  // Put what was sent in place; false where a row is asked for that was not sent, so that all are asked for again.
  const drawn = (found) => {
    const root = frame(), body = root.querySelector(".suite-matrix tbody");
    const here = new Map([...body.querySelectorAll(":scope > tr[data-row]")].map((row) => [row.dataset.row, row]));
    if (found.order.some((row) => !here.has(row) && !(row in found.rows))) return false;
    const before = root.dataset.status;
    root.dataset.status = found.status;
    put(root.querySelector(".suite-standing"), found.standing);
    if (found.mark) { suite.mark = found.mark; put(root.querySelector(".suite-sum"), found.sum); keepOpen(root); }
    for (const [show, n] of Object.entries(found.chips)) {
      const chip = root.querySelector(`[data-suite=show][data-show=${show}]`);
      if (!chip) continue;
      chip.querySelector("span").textContent = n;
      if (show === "worse") chip.hidden = !suite.against && suite.show !== "worse";
      if (show === "waiting") chip.hidden = !n && suite.show !== "waiting";
      chip.disabled = !n && show !== "all" && suite.show !== show;
    }
    const retry = root.querySelector("[data-suite=retry]");
    if (retry) retry.hidden = !found.chips.error || found.status === "running";
    const counted = root.querySelector(".suite-count");
    if (counted.textContent !== found.counted) counted.textContent = found.counted;
    suite.page = found.page;
    let at = body.firstElementChild;
    const next = (row) => (row?.nextElementSibling?.matches("[data-of]") ? row.nextElementSibling.nextElementSibling : row?.nextElementSibling ?? null);
    const wanted = new Set(found.order);
    for (const [number, row] of here) if (!wanted.has(number)) { if (at === row) at = next(row); remove(row); }
    for (const number of found.order) {
      let row = here.get(number);
      if (number in found.rows) {
        const fresh = made(found.rows[number]);
        if (!row) row = fresh;
        else changedRow(row, fresh);
      }
      if (at === row) { at = next(row); continue; }
      const detail = row.nextElementSibling?.matches("[data-of]") ? row.nextElementSibling : null;
      body.insertBefore(row, at);
      if (detail) body.insertBefore(detail, at);
    }
    const pages = root.querySelector(".suite-pages");
    pages.hidden = !found.pager;
    put(pages, found.pager);
    if (before === "running" && found.status !== "running") ended();
    return true;
  };
  // Run comes back in the place of Pause; whoever pressed that with the keyboard stays there.
  const ended = () => {
    const button = $("#suite-pause button");
    const there = document.activeElement === button || document.activeElement === document.body;
    button.textContent = button.dataset.first;
    if (there) $("button#suite-run")?.focus({ preventScroll: true });
    send({ do: "list", id: suite.id });
    say(frame().querySelector(".suite-far").textContent);
  };
  const remove = (row) => {
    if (row.nextElementSibling?.matches("[data-of]")) row.nextElementSibling.remove();
    row.remove();
  };
  // Cells that are as they were stay, and with them what is chosen in them and where the focus is.
  const changedRow = (row, fresh) => {
    [...fresh.children].forEach((cell, place) => {
      const old = row.children[place];
      if (!old || old.outerHTML === cell.outerHTML) return;
      if (place === 0) {
        const open = old.querySelector("[aria-expanded]")?.getAttribute("aria-expanded");
        if (open === "true") cell.querySelector("[aria-expanded]")?.setAttribute("aria-expanded", "true");
        if (old.outerHTML === cell.outerHTML) return;
        const focused = old.contains(document.activeElement) ? document.activeElement.dataset.suite : "";
        old.replaceWith(cell);
        if (focused) cell.querySelector(`[data-suite=${focused}]`)?.focus({ preventScroll: true });
        return;
      }
      old.replaceWith(cell);
    });
    if (row.nextElementSibling?.matches("[data-of]")) details(row, row.nextElementSibling);
  };
  const keepOpen = (root) => {
    for (const part of root.querySelectorAll("details[data-keep]")) {
      if (kept[`open-${part.dataset.keep}`] !== undefined) part.open = kept[`open-${part.dataset.keep}`];
      part.addEventListener("toggle", () => keep({ [`open-${part.dataset.keep}`]: part.open }));
    }
  };
  const details = async (row, place) => {
    try {
      const answer = await fetch(`suite/${encodeURIComponent(suite.id)}/row/${row.dataset.row}`, { cache: "no-store" });
      if (answer.ok) put(place.firstElementChild, (await answer.json()).html);
    } catch { /* it stays as it is; pressing again asks again */ }
  };
  const toggle = (button) => {
    const row = button.closest("tr");
    const there = row.nextElementSibling?.matches("[data-of]") ? row.nextElementSibling : null;
    button.setAttribute("aria-expanded", String(!there));
    if (there) { there.remove(); return; }
    const place = document.createElement("tr");
    place.dataset.of = row.dataset.row;
    const cell = place.appendChild(document.createElement("td"));
    cell.colSpan = row.children.length;
    row.after(place);
    details(row, place);
  };
  const ask_for = (changes) => {
    if (!suite) return;
    suite = { ...suite, ...changes, after: 0 };
    look();
  };
  const pressed = (show) => {
    for (const chip of frame().querySelectorAll("[data-suite=show]")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.show === show));
    }
  };

  // A frame that has come into the page, by Run, by opening an earlier run or after a reload.
  const found = () => {
    const root = frame();
    if (!root) {
      if (suite && $("#suite-shown .empty")) { suite = null; keep({ suite: "" }); address(""); }
      return;
    }
    if (suite?.root === root && suite.id === root.dataset.suiteId) return;
    suite = {
      root, id: root.dataset.suiteId, show: "all", sort: "file", words: "", page: 0, against: "", after: 0, mark: "",
    };
    keep({ suite: suite.id });
    if ($("#tabs")) address(suite.id);
    stale = 0;
    look();
  };

  // -- what is pressed ------------------------------------------------------------------------------------------

  const places = () => [...document.querySelectorAll("#suite-shown .in-place")];
  const actions = {
    example: (button) => {
      const own = box().value.trim() && !examples().some((each) => each.dataset.text === box().value);
      const small = $("#suite-examples small");
      if (own) { small.hidden = false; say(small.textContent); return; }
      small.hidden = true;
      fill(button.dataset.text, button.dataset.file);
    },
    clear: () => { fill("", ""); box()?.focus(); $("#suite-examples small").hidden = true; },
    show: (button) => { pressed(button.dataset.show); ask_for({ show: button.dataset.show, page: 0 }); },
    page: (button) => {
      ask_for({ page: Number(button.dataset.page) });
      frame().querySelector(".suite-find").scrollIntoView({ block: "start" });
    },
    details: toggle,
    compare: (button) => send({ do: "compare", id: suite.id, row: Number(button.dataset.row) }),
    open: (button) => send({ do: "open", id: button.dataset.id }),
    pause: (button) => {
      if (!suite) return;
      send({ do: button.textContent === button.dataset.then ? "halt" : "pause", id: suite.id });
      button.textContent = button.dataset.then;
      look(LOOK_MS / 2);
    },
    resume: () => { send({ do: "resume", id: suite.id }); look(LOOK_MS); },
    retry: () => { send({ do: "retry", id: suite.id }); look(LOOK_MS); },
    again: () => {
      head = null; // what comes is named as it was
      send({ do: "again", id: suite.id });
      $("#suite-text")?.scrollIntoView({ block: "center" });
      setTimeout(() => { changed(); box()?.focus({ preventScroll: true }); }, READ_MS);
    },
    "ask-delete": (button) => {
      const [place] = places();
      place.hidden = !place.hidden;
      button.setAttribute("aria-expanded", String(!place.hidden));
      if (!place.hidden) place.querySelector("[data-suite=never-mind]").focus();
    },
    "never-mind": () => {
      places().forEach((each) => { each.hidden = true; });
      const button = frame().querySelector("[data-suite=ask-delete]");
      button.setAttribute("aria-expanded", "false");
      button.focus();
    },
    delete: () => send({ do: "delete", id: suite.id }),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-suite]");
    if (!button || button.disabled || (button.closest(".suite") && !suite)) return;
    actions[button.dataset.suite]?.(button);
  });
  let sought = 0;
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.closest?.("#suite-text")) { changed(); return; }
    if (!field.matches?.("[data-suite=words]")) return;
    clearTimeout(sought);
    sought = setTimeout(() => ask_for({ words: field.value, page: 0 }), SOUGHT_MS);
  });
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.matches?.("[data-suite=file]")) opened(field);
    else if (field.matches?.("[data-suite=sort]")) ask_for({ sort: field.value, page: 0 });
    else if (field.matches?.("[data-suite=against]")) {
      if (!field.value && suite.show === "worse") { pressed("all"); suite.show = "all"; }
      ask_for({ against: field.value, page: 0, mark: "" });
    } else if (field.closest?.("#suite-models")) { mineChosen = true; }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#suite-compose, #suite-models-row")) return;
    const button = $("button#suite-run");
    if (!button || button.disabled) return;
    event.preventDefault();
    event.target.blur?.(); // the box tells the page of its text first
    setTimeout(() => { button.click(); event.target.focus?.({ preventScroll: true }); }, 50);
  }, true);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && suite) look(); });

  // -- when the tab is first opened -------------------------------------------------------------------------------

  let mineChosen = false, mounted = false, taken = "";
  const models = (theirs, mine) => {
    if (mineChosen || !Array.isArray(theirs) || !theirs.length) return mine;
    if (taken && JSON.stringify(mine) !== taken) { mineChosen = true; return mine; }
    const plain = [...new Set(theirs.map((name) => String(name).replace(/ \([2-9]\)$/, "")))];
    taken = JSON.stringify(plain);
    return plain;
  };
  const mount = () => {
    if (mounted || !box() || !$("#suite-action :is(textarea, input)") || !$("#suite-shown .empty, #suite-shown .suite")) return;
    mounted = true;
    const before = kept;
    const id = new URLSearchParams(window.location.search).get("suite") || before.suite;
    // Gradio listens to a box a moment after it has drawn it.
    setTimeout(() => {
      if (!box().value && before.text) fill(before.text, before.file ?? "");
      mark();
      if (id) send({ do: "open", id });
    }, MOUNT_MS);
  };
  new MutationObserver((changes) => {
    if (!mounted) mount();
    if (!changes.some(({ target }) => target.nodeType === Node.ELEMENT_NODE && target.closest("#suite-shown, #suite-entries"))) return;
    local();
    found();
  }).observe(document, { childList: true, subtree: true });
  window.playground = { ...window.playground, suite: { models } };
})();
