// The page's language: a choice is kept in a cookie that the server reads, and the page is asked for again in it.
(() => {
  const NAME = "playground_language";
  const remember = (language) => {
    const inFrame = window.self !== window.top;
    // In another site's frame, as on a Space, only a partitioned cookie is kept.
    const kind = location.protocol === "https:" && inFrame ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
    document.cookie = `${NAME}=${language}; Path=/; Max-Age=31536000; ${kind}`;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-language]");
    if (!button || button.getAttribute("aria-pressed") === "true") return;
    remember(button.dataset.language);
    location.reload();
  });
  // Screen readers and hyphenation ask the document; gradio writes its own choice there after it has started.
  const tell = () => {
    const current = document.querySelector(".language[data-current]")?.dataset.current;
    if (current && document.documentElement.lang !== current) document.documentElement.lang = current;
  };
  const start = () => {
    tell();
    new MutationObserver(tell).observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
    let seen = false;
    const waiting = new MutationObserver(() => {
      if (seen || !document.querySelector(".language[data-current]")) return;
      seen = true;
      tell();
      waiting.disconnect();
    });
    waiting.observe(document.body, { childList: true, subtree: true });
  };
  if (document.body) start();
  else document.addEventListener("DOMContentLoaded", start);
})();
