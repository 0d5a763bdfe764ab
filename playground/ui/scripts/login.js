// In the Hub's frame a page is as long as it is and does not scroll; the Hub's own page that follows there has to.
document.addEventListener("click", (event) => {
  if (event.target.closest?.(".login a") && window.self !== window.top) {
    window.parent.postMessage({ type: "SET_SCROLLING", enabled: true }, "*");
  }
});
