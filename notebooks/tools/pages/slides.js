// The slides: keys and clicks by reveal.js; a slide that is too long scrolls, by keys as well.
"use strict";
document.querySelectorAll("details.source").forEach((one) => { // code is read where it is short
  one.open = !one.closest(".cell").querySelector(".outputs :is(img, table)");
});
Reveal.initialize({
  width: 1180, height: 700, margin: 0.05, center: false, hash: true, slideNumber: "c/t",
  transition: "none", controls: true, progress: true,
});
const reachable = () => document.querySelectorAll("section section").forEach((one) => {
  const long = one.matches(".present") && one.scrollHeight > one.clientHeight;
  if (long) one.tabIndex = 0;
  else one.removeAttribute("tabindex");
});
Reveal.on("ready", reachable);
Reveal.on("slidechanged", reachable);
