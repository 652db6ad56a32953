export default { render({ model, el }) {
  const send = (key) => model.send({ key, item: model.get("position") });
  const root = make("div", el, { class: "embkit-annotator", tabindex: 0, role: "group",
    "aria-label": "Judge documents. Keys 2, 1, 0 grade, Backspace undoes, right arrow skips." });
  const progress = make("progress", root, { "aria-label": "judged" });
  const count = make("span", root);
  const item = make("div", root, { "aria-live": "polite", "aria-atomic": "true" });
  const [query, text] = ["query", "document"].map((name) => {
    make("small", item, {}, name);
    return make("p", item, { class: `embkit-${name}`, dir: "auto" });
  });
  const bar = make("div", root, { class: "embkit-keys" });
  const buttons = model.get("buttons");
  for (const [key, meaning] of buttons) {
    const button = make("button", bar, { title: meaning, "aria-keyshortcuts": key });
    make("kbd", button, {}, { Backspace: "⌫", ArrowRight: "→" }[key] ?? key);
    button.append(" " + meaning.split(":")[0]);
    button.addEventListener("click", () => send(key));
  }
  for (const [key, meaning] of buttons.slice(0, 3)) make("small", root, {}, `${key} ${meaning}`);
  make("small", root, { class: "embkit-hint" }, "Click here or Tab to here: then the keys work.");
  const message = make("p", root, { role: "status" });
  root.addEventListener("keydown", (event) => {
    if (ofLab(event)) return;
    event.stopPropagation();
    const { key } = event;
    const known = key.length === 1 || buttons.some(([name]) => name === key);
    if (key === " " || !known) return;  // a button's own key, or one that scrolls
    event.preventDefault();
    if (!event.repeat) send(key);  // a key held down is one
  });
  const update = () => {
    query.textContent = model.get("query");
    text.textContent = model.get("document");
    text.scrollTop = 0;
    Object.assign(progress, { max: model.get("total"), value: model.get("done") });
    count.textContent = `${progress.value} of ${progress.max} · ${model.get("annotator")}`;
    message.textContent = model.get("message");
  };
  return follow(model, update);
} };
