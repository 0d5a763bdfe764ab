// A column's own parameters: Run takes what stands in the open box, as if its button had been pressed first; where a
// field is wrong, the box says so and nothing runs. And what a button leads to further down the page is brought into view.
(() => {
  const WAIT_MS = 3000, LOOK_MS = 50;
  const open = () => {
    const box = document.querySelector("#own");
    return box && box.offsetParent !== null;
  };
  const later = (ready, then, left = WAIT_MS) => {
    if (ready()) then();
    else if (left > 0) setTimeout(() => later(ready, then, left - LOOK_MS), LOOK_MS);
  };
  document.addEventListener("click", (event) => {
    const run = event.target.closest?.("button#run");
    const use = document.querySelector("#own-use");
    if (!run || !use || !open()) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    use.click();
    later(() => !open(), () => run.click());
  }, true);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.('[data-do="tokens"]')) return;
    const place = () => document.querySelector("#tokens-answer");
    const shown = () => place() && place().offsetParent !== null;
    later(shown, () => setTimeout(() => place()?.scrollIntoView({ behavior: "smooth", block: "start" }), 300));
  });
})();
