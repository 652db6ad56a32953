// Search over the lessons' text, dark or light, code folded or not. Works from file://.
"use strict";
const root = document.documentElement, find = document.getElementById("find");
const kept = (key, value) => {
  try { // a browser may keep nothing for pages from a disk
    return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value);
  } catch { return null; }
};

// Dark or light: the system's choice until somebody chooses.
root.dataset.theme = kept("theme") || "";
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  kept("theme", root.dataset.theme);
});

// All code folded, or open.
const fold = document.getElementById("fold"), sources = document.querySelectorAll("details.source");
const foldAll = (folded) => {
  sources.forEach((one) => { one.open = !folded; });
  fold.setAttribute("aria-pressed", folded);
  kept("folded", folded);
};
fold.hidden = !sources.length;
fold.addEventListener("click", () => foldAll(fold.getAttribute("aria-pressed") !== "true"));
if (kept("folded") === "true") foldAll(true);

// What scrolls can be scrolled by keys.
const reachable = () => document.querySelectorAll(".output, main pre, main dl").forEach((one) => {
  if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
  else one.removeAttribute("tabindex");
});
addEventListener("load", reachable);
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);

// A link into something folded opens it.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
if (location.hash) addEventListener("load", unfold);

// Search: every word must occur; sections whose heading has it come first.
const found = document.getElementById("found");
const MOST = 20, AROUND = 70;
const show = () => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.replaceChildren();
  if (!words.length || !window.COURSE) return;
  const hits = window.COURSE.filter((one) => {
    const all = `${one.title} ${one.section} ${one.text}`.toLowerCase();
    return words.every((word) => all.includes(word));
  });
  const inHead = (one) => words.some((word) => one.section.toLowerCase().includes(word));
  hits.sort((a, b) => inHead(b) - inHead(a));
  const head = document.createElement("p");
  head.textContent = `${hits.length} section${hits.length === 1 ? "" : "s"}`
    + (hits.length > MOST ? `, the first ${MOST}` : "");
  const list = document.createElement("ul");
  for (const one of hits.slice(0, MOST)) {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = one.page + (one.anchor ? `#${encodeURIComponent(one.anchor)}` : "");
    link.textContent = `${one.title}: ${one.section}`;
    const at = Math.max(0, one.text.toLowerCase().indexOf(words[0]));
    const part = document.createElement("span");
    part.textContent = one.text.slice(Math.max(0, at - AROUND), at + AROUND);
    item.append(link, part);
    list.append(item);
  }
  found.append(head, list);
};
find.addEventListener("input", () => {
  if (window.COURSE) return show();
  if (document.getElementById("index-script")) return;
  const script = document.createElement("script"); // the index is read when somebody searches
  script.id = "index-script";
  script.src = "search.js";
  script.onload = show;
  document.head.append(script);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") { find.value = ""; show(); }
  const typing = /INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing) { event.preventDefault(); find.focus(); }
});
