// Buttons in pieces of HTML: `data-do` says what is pressed, `data-column` in which column. What the server has to do is
// written into a box out of sight, which the page listens to; copying, unfolding and moving need no server.
(() => {
  const HERE = new Set(["copy", "copy-code", "raw", "expand", "pin", "left", "right", "collapse", "raw-all"]);
  const RUNNING = new Set(["again", "go-on", "reply", "resend"]);
  let count = 0;

  const write = (id, text) => {
    const box = document.querySelector(`#${id} textarea, #${id} input`);
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const send = (action) => {
    count += 1;
    write("action", JSON.stringify({ ...action, count }));
  };
  const over = (id) => {
    count += 1;
    write("over", `${id} ${count}`); // twice the same comparison is two changes
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do]");
    if (!button || button.disabled || HERE.has(button.dataset.do)) return;
    const { do: name, column, ...given } = button.dataset;
    send({ do: name, ...given, ...(column === undefined ? {} : { column: Number(column) }) });
    if (name === "reply" || name === "resend") {
      setTimeout(() => document.querySelector("#reply-text textarea")?.focus(), 300);
    }
    if (RUNNING.has(name)) button.blur();
  });
  window.playground = { ...window.playground, act: send, over };
})();
