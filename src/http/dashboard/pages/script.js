// What saves clicks. Every page works without it.
"use strict";

// A page that shows how things stand is brought up to date, unless somebody is reading in it. Where that
// fails it says so: old numbers look like good ones.
function refresh(main) {
  const everyMs = Number(main.dataset.refresh) * 1000;
  const isInUse = () =>
    String(getSelection()) || main.contains(document.activeElement) && document.activeElement !== main;
  const notice = document.createElement("p");
  notice.className = "notice warn stale";
  notice.setAttribute("role", "alert");
  let shownAt = new Date();
  const say = (why) => {
    const text = "Not up to date since " + shownAt.toISOString().slice(11, 16) + " UTC: " + why + ".";
    if (notice.textContent !== text) notice.textContent = text; // or it would be read out at every turn
    if (!notice.isConnected) main.before(notice);
  };
  const turn = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", signal: AbortSignal.timeout(everyMs) });
      if (answer.status === 401) return say("log in again");
      if (!answer.ok) return say("the server answers " + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      notice.remove();
      if (isInUse()) return;
      main.replaceChildren(...page.getElementById("main").childNodes);
      shownAt = new Date();
    } catch {
      say("the server does not answer"); // the next turn tries again
    }
  };
  setInterval(turn, everyMs);
  document.addEventListener("visibilitychange", turn);
}

const main = document.getElementById("main");
if (main.dataset.refresh) refresh(main);

// The live page. Everything a sender wrote goes in as text.
function cell(content, name) {
  const td = document.createElement("td");
  if (name) td.className = name;
  td.append(content);
  return td;
}

function badge(word) {
  const span = document.createElement("span");
  span.className = "badge " + word;
  span.textContent = word;
  return span;
}

function link(event, text) {
  const a = document.createElement("a");
  a.href = "/events/" + encodeURIComponent(event);
  a.textContent = text;
  return a;
}

function line(seen) {
  const row = document.createElement("tr");
  const time = seen.at.slice(11, 19);
  if (seen.what === "received") {
    row.append(cell(time), cell(badge(seen.status)), cell(seen.source), cell(""),
      cell(link(seen.id, seen.event_type || seen.event_id || seen.id), "said"));
  } else if (seen.what === "refused") {
    row.append(cell(time), cell(badge("refused")), cell(seen.source), cell(""), cell(seen.code, "said"));
  } else {
    const took = seen.took_ms === null ? "" : " in " + seen.took_ms + " ms";
    row.append(cell(time), cell(badge(seen.outcome)), cell(seen.source), cell(seen.handler),
      cell(link(seen.event, "attempt " + seen.number + took + (seen.error ? ": " + seen.error : "")), "said"));
  }
  return row;
}

function watch(list, state) {
  const LINES_MAX = 200;
  const source = new EventSource("/api/v1/tail");
  const add = (row) => {
    list.prepend(row);
    while (list.children.length > LINES_MAX) list.lastElementChild.remove();
  };
  source.onopen = () => { state.textContent = "live"; state.className = "badge good"; };
  source.onerror = () => {
    const hasEnded = source.readyState === EventSource.CLOSED; // whoever was logged out is not let in again
    state.textContent = hasEnded ? "ended: open this page again" : "connecting again";
    state.className = "badge warn";
  };
  source.onmessage = (message) => add(line(JSON.parse(message.data)));
  source.addEventListener("missed", (message) => {
    const row = document.createElement("tr");
    const all = cell(message.data + " more happened too fast to be shown", "empty");
    all.colSpan = 5;
    row.append(all);
    add(row);
  });
}

const list = document.getElementById("tail");
if (list) watch(list, document.getElementById("tail-state"));
