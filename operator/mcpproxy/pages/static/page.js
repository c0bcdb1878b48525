// Keeps a page current: reads its parts from the server, which escapes every text in them.
"use strict";

const FIRST_PAUSE = 2000;
const LONGEST_PAUSE = 30000;
const APART = 1000;
const TYPED = 200;
const page = document.getElementById("content");

const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));

async function read(url) {
  const answer = await fetch(url, { credentials: "omit", redirect: "error" });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return answer.text();
}

const parse = (text) => new DOMParser().parseFromString(text, "text/html");

function keepOpen(from, to) {
  for (const details of to.querySelectorAll("details[id]")) {
    const before = document.getElementById(details.id);
    if (!before || !from.contains(before) || !before.open) continue;
    details.open = true;
    const loaded = before.querySelector(":scope > [data-loaded]");
    if (loaded) details.append(loaded);
  }
}

function replace(part, next) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const path = focused && pathTo(part, focused);
  keepOpen(part, next);
  part.replaceChildren(...next.childNodes);
  if (path) follow(part, path)?.focus({ preventScroll: true });
}

// The position of the focused element, because most elements have no id.
function pathTo(part, element) {
  const steps = [];
  for (let at = element; at !== part; at = at.parentElement) {
    steps.unshift([...at.parentElement.children].indexOf(at));
  }
  return steps;
}

function follow(part, path) {
  return path.reduce((at, step) => at?.children[step], part);
}

function announce(text) {
  document.getElementById("announcements").textContent = text;
}

const seen = new Map();
let lastOverview = "";

async function refresh() {
  const news = [];
  for (const list of page.querySelectorAll("[data-reloads]")) {
    news.push(...await load(list.id, location.search, true));
  }
  const overview = await read(page.querySelector("[data-refresh]").dataset.refresh);
  // Most of the time nothing has changed, and parsing is the most expensive part.
  const changed = overview === lastOverview ? [] : parse(overview).querySelectorAll("[data-live]");
  lastOverview = overview;
  for (const part of changed) {
    const here = document.getElementById(part.id);
    if (!here) return location.reload();
    const text = part.innerHTML;
    if (seen.get(part.id) !== text) {
      const states = statesIn(here);
      replace(here, part);
      news.push(...changes(states, statesIn(here)));
    }
    seen.set(part.id, text);
  }
  if (news.length) announce(news.slice(0, 5).join(", "));
}

function statesIn(part) {
  return new Map([...part.querySelectorAll("[data-name]")].map((found) =>
    [found.dataset.name, found.dataset.state]));
}

function changes(before, after) {
  return [...after].filter(([name, state]) => before.has(name) && before.get(name) !== state)
    .map(([name, state]) => `${name}: ${state}`);
}

async function follower(url) {
  let pause = FIRST_PAUSE;
  for (;;) {
    while (document.hidden) await wait(APART);
    const ending = new AbortController();
    const hide = () => document.hidden && ending.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const answer = await fetch(url, { credentials: "omit", signal: ending.signal });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const reader = answer.body.getReader();
      for (let got = await reader.read(); !got.done; got = await reader.read()) {
        await refresh();
        pause = FIRST_PAUSE;
        await wait(APART);
      }
    } catch {
      // The server ended the stream, or is gone: another attempt follows.
    }
    document.removeEventListener("visibilitychange", hide);
    await wait(pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
    if (!document.hidden) await refresh().catch(() => {});
  }
}

async function poller(every) {
  for (;;) {
    await wait(every);
    if (!document.hidden) await refresh().catch(() => {});
  }
}

// Lists: the filter and the links of a list load its parts.

const latest = new Map();

async function load(target, search, quiet = false) {
  const part = document.getElementById(target);
  const number = (latest.get(target) ?? 0) + 1;
  latest.set(target, number);
  const text = await read(part.dataset.source + search);
  if (latest.get(target) !== number || (quiet && seen.get(target) === text)) return [];
  seen.set(target, text);
  const content = parse(text).getElementById(target);
  if (!content) return [];
  const states = statesIn(part);
  replace(part, content);
  if (quiet) return changes(states, statesIn(part));
  const result = part.querySelector("[data-result]");
  if (result) announce(result.textContent);
  return [];
}

function listOf(element) {
  return element.closest("[data-source]");
}

page.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-load]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const list = listOf(link);
  const search = new URL(link.href).search;
  const box = page.querySelector(`[data-filters="${list.id}"]`);
  const fields = new URLSearchParams(search);
  if (box) box.value = fields.get("text") ?? "";
  history.replaceState(null, "", `./${search}#${list.id}`);
  load(list.id, search).catch(() => announce("The list could not be loaded."));
});

page.addEventListener("toggle", async (event) => {
  const details = event.target;
  const source = details.dataset.details;
  if (!source || !details.open || details.querySelector(":scope > [data-loaded]")) return;
  const body = document.createElement("div");
  body.dataset.loaded = "";
  details.append(body);
  try {
    body.replaceChildren(...parse(await read(source)).body.childNodes);
  } catch {
    body.textContent = "The details could not be loaded. Close and open them to try again.";
    delete body.dataset.loaded;
  }
}, true);

for (const box of page.querySelectorAll("[data-filters]")) {
  let timer;
  box.parentElement.hidden = false;
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const list = document.getElementById(box.dataset.filters);
      const fields = new URLSearchParams(list.dataset.fields);
      fields.set("text", box.value);
      history.replaceState(null, "", `./?${fields}#${list.id}`);
      load(list.id, `?${fields}`).catch(() => announce("The list could not be loaded."));
    }, TYPED);
  });
}

for (const part of page.querySelectorAll("[data-live]")) seen.set(part.id, part.innerHTML);
const overview = page.querySelector("[data-refresh]");
if (overview?.dataset.follow) follower(overview.dataset.follow);
else if (overview) poller(Number(overview.dataset.every));
