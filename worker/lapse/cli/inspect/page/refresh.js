"use strict";
const button = document.getElementById("pause"), said = document.getElementById("said");
let paused = false;
button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
});
async function refresh() {
  if (paused || document.hidden || !getSelection().isCollapsed) return;
  try {
    const reply = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    if (paused || !page.getElementById("said")) throw new Error(reply.status);
    const x = scrollX, y = scrollY, focused = document.activeElement.closest("main [href]")?.getAttribute("href");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    if (focused) document.querySelector(`main [href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    scrollTo(x, y);
    said.className = page.getElementById("said").className;
    if (said.textContent !== page.getElementById("said").textContent) said.textContent = page.getElementById("said").textContent;
    document.title = page.title;
  } catch {
    if (!paused) said.textContent = "No answer from lapse metrics: this is what it last showed.";
  }
}
(async () => {
  for (;;) await new Promise((resolve) => setTimeout(resolve, 5000)).then(refresh);
})();
