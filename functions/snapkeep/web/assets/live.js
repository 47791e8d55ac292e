// Nobody may trust a frozen page: says so when no answer has come for a while, and takes only this page's own answers.
(() => {
  "use strict";
  const staleMs = Number(document.body.dataset.staleS) * 1000;
  const pollS = document.body.dataset.pollS;
  const hiddenMs = 180_000; // browsers let a hidden tab ask once a minute
  const banner = document.getElementById("stale");
  const live = document.getElementById("live");
  const mark = "Not current · ";
  const ours = `<main id="${document.querySelector("main").id}"`;
  let answered = Date.now();

  function ago(ms) {
    const minutes = Math.floor(ms / 60_000);
    if (minutes < 1) return "less than a minute ago";
    return minutes < 120 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ago`;
  }

  function show(element, text) {
    if (element.textContent !== text) element.textContent = text;
    element.hidden = text === "";
  }

  function check() {
    const silence = Date.now() - answered;
    const over = document.querySelector("main").hasAttribute("data-over"); // what has ended is not asked about again
    const stale = !over && silence > (document.hidden ? hiddenMs : staleMs);
    document.documentElement.classList.toggle("is-stale", stale);
    show(banner, stale ? `Not current: last update ${ago(silence)}. Asking again every ${pollS} s.` : "");
    show(live, over ? "Ended" : stale ? "Not current" : "Live");
    const title = document.title.replace(mark, "");
    if (document.title !== (stale ? mark + title : title)) document.title = stale ? mark + title : title;
  }

  document.addEventListener("htmx:after:request", (event) => {
    const { response, text } = event.detail.ctx;
    if (response.status === 204 || (response.status === 200 && text.includes(ours))) {
      answered = Date.now();
      check();
    } else {
      event.preventDefault(); // a proxy's sign-in, an error: what is on the page stays, and grows stale
    }
  });
  document.addEventListener("htmx:after:swap", check);
  setInterval(check, 1000);
  check();
})();
