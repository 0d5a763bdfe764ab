// Gradio's page hears of its events by one stream, which the app closes behind the last of them, and loses events in two
// moments (docs/gradio-events-lost.md). One that is asked for while the word that closes the stream is on its way is
// waited for on a stream that is gone. And a stream that broke still counts as open: no event is heard of ever after.
//
// So what Gradio reads here is one stream for as long as it waits for anything; the app's may be several. It is told of
// the end when no event is left, and an event that is asked for just then is made known when it has heard so. Where a
// stream broke, the app has dropped the events of this page without a word, so all that are left are told as broken.
(() => {
  const HEARD_MS = 2000;
  const fetch = window.fetch.bind(window);
  const taken = new Set(), ended = new Set(); // events that were taken and not heard the end of, and the other way round
  let asking = 0, losses = 0;
  let asked = () => {}; // called when an answer has come for what was asked
  let heard = Promise.resolve(); // Gradio has heard that its stream is closed
  let close = () => {}; // ends the stream that Gradio reads, if it reads one, behind a last word

  const bytes = (text) => new TextEncoder().encode(text);
  const CLOSE = bytes('data: {"msg":"close_stream"}\n\n'), BROKEN = bytes('data: {"msg":"broken_connection"}\n\n');
  const LOST = "Connection errored out. "; // by these words Gradio knows it

  const lose = () => {
    losses += 1;
    close(BROKEN);
  };

  const join = async (...request) => {
    const before = losses;
    let answer;
    asking += 1;
    try {
      answer = await fetch(...request);
      const event = answer.ok && (await answer.clone().json()).event_id;
      if (event && before === losses && !ended.delete(event)) taken.add(event);
    } finally {
      asking -= 1;
      asked();
    }
    await heard;
    return answer.ok && before !== losses ? Response.json({ error: LOST }, { status: 500 }) : answer;
  };

  // One stream of the app's. Returns when the app closes it.
  const pass = async (answer, out) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let left = ""; ;) {
      const { done, value } = await reader.read();
      if (done) throw new TypeError("The stream of events ended too early.");
      const parts = (left + value).split("\n\n");
      left = parts.pop();
      for (const part of parts) {
        const message = JSON.parse(part.replace(/^data: ?/, ""));
        if (message.msg === "close_stream") return;
        if (message.msg === "process_completed" && !taken.delete(message.event_id)) ended.add(message.event_id);
        out.enqueue(bytes(`${part}\n\n`));
      }
    }
  };
  const relay = async (request, out) => {
    let open = true;
    close = (word) => {
      if (!open) return;
      open = false;
      heard = new Promise((resolve) => {
        request.signal.addEventListener("abort", resolve);
        setTimeout(resolve, request.signal.aborted ? 0 : HEARD_MS);
      });
      taken.clear();
      ended.clear();
      try {
        if (word) out.enqueue(word);
        out.enqueue(CLOSE);
        out.close();
      } catch { /* Gradio reads it no more */ }
    };
    try {
      do {
        await pass(await fetch(request.clone()), out);
        while (open && asking) await new Promise((resolve) => { asked = resolve; });
      } while (open && taken.size);
      if (open) close();
    } catch {
      if (open) lose();
    }
  };
  const listen = async (...request) =>
    new Response(new ReadableStream({ start: (out) => void relay(new Request(...request), out) }));

  // By the heartbeat the app knows that the page is there. Behind its last beat the page's events are dropped.
  const beat = async (...request) => {
    const answer = await fetch(...request);
    const [one, other] = answer.body.tee();
    const gone = () => { if (taken.size || asking) lose(); };
    other.pipeTo(new WritableStream()).then(gone, gone);
    return new Response(one, answer);
  };

  window.fetch = (...request) => {
    const { pathname } = new URL(request[0]?.url ?? request[0], document.baseURI);
    if (pathname.endsWith("/queue/join")) return join(...request);
    if (pathname.endsWith("/queue/data")) return listen(...request);
    return /\/heartbeat\/\w+$/.test(pathname) ? beat(...request) : fetch(...request);
  };
})();
