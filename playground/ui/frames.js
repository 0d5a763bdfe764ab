// Two of Gradio's habits that cost processor time where the models run, and what is done about them.
//
// Its status tracker asks for a frame with every frame, for good, where it is taken away before it has seen its event
// end; its own start screen always is (docs/gradio-status-tracker.md). Sixty frames a second in which nothing changes cost
// a resting page 5 % of a core, taken from the models. So a chain of frames that has gone on for some seconds, one asked
// for in the other, goes on after half a second, then after a whole one, and ever more slowly. Nothing on this page moves
// for so long.
(() => {
  const LONG = 180, SLOW_MS = 500, SLOWEST_MS = 10_000;
  const frame = window.requestAnimationFrame.bind(window);
  const cancel = window.cancelAnimationFrame.bind(window);
  const waiting = new Map();
  let depth = 0, last = 0;

  window.requestAnimationFrame = (callback) => {
    const mine = depth + 1;
    const run = (now) => {
      const before = depth;
      depth = mine;
      try { callback(now); } finally { depth = before; }
    };
    if (mine <= LONG) return frame(run);
    const handle = -(++last); // the browser's own are positive
    const wait = Math.min(SLOWEST_MS, SLOW_MS * (mine - LONG));
    waiting.set(handle, setTimeout(() => { waiting.delete(handle); run(performance.now()); }, wait));
    return handle;
  };
  window.cancelAnimationFrame = (handle) => {
    if (!waiting.has(handle)) { cancel(handle); return; }
    clearTimeout(waiting.get(handle));
    waiting.delete(handle);
  };

  // With each message of an event it copies what components hold, by structuredClone for every single number and text
  // of them: some 5,000 calls a click, a quarter of its time. What has no parts is its own copy; of a function there
  // is none, and Gradio takes the function itself when it is told so. Here it is not told.
  const clone = window.structuredClone.bind(window);
  window.structuredClone = (value, ...options) => {
    const parts = typeof value === "object" ? value !== null : typeof value === "symbol";
    return parts ? clone(value, ...options) : value;
  };
})();
