// What saves clicks. Every page works without it.
"use strict";

// A page that shows how things stand is brought up to date, unless somebody is reading in it.
function refresh(main) {
  const isInUse = () =>
    document.hidden || String(getSelection()) || main.contains(document.activeElement) && document.activeElement !== main;
  setInterval(async () => {
    if (isInUse()) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok || isInUse()) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.getElementById("main").childNodes);
    } catch {
      // The server is away: what is shown stays, and the next turn tries again.
    }
  }, Number(main.dataset.refresh) * 1000);
}

const main = document.getElementById("main");
if (main.dataset.refresh) refresh(main);
