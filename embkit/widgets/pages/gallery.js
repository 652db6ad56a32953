// A picture is a button: Tab goes from one to the next, the arrows too, Enter picks.
export default { render({ model, el }) {
  const root = make("div", el, { class: "embkit-gallery", role: "search" });
  const label = make("label", root, {}, "Search pictures with words ");
  const box = make("input", label, { type: "search", placeholder: "words, then Enter" });
  const message = make("p", root, { role: "status" }), rows = make("div", root);
  box.addEventListener("change", () => model.send({ search: box.value }));
  root.addEventListener("keydown", (event) => {
    if (ofLab(event)) return;
    event.stopPropagation();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const buttons = [...rows.querySelectorAll("button")], at = buttons.indexOf(event.target);
    if (step && at >= 0) {
      buttons[Math.min(buttons.length - 1, Math.max(0, at + step))].focus();
      event.preventDefault();
    }
  });
  const update = () => {
    if (document.activeElement !== box) box.value = model.get("query");
    message.textContent = model.get("message");
    const kept = rows.contains(document.activeElement) && document.activeElement.dataset.place;
    rows.replaceChildren();
    for (const [name, found] of model.get("found")) {
      make("h4", rows, {}, name);
      const line = make("div", rows, { class: "embkit-line", role: "list" });
      found.forEach(({ picture, caption, score, right }, i) => {
        const item = make("div", line, { role: "listitem" }), place = `${name}/${i}`;
        const button = make("button", item, { title: caption, "data-place": place });
        make("img", button, { src: picture, alt: caption, width: 56, height: 56 });
        make("small", button, {}, `${i + 1}. ${caption} ${right ? "✓ " : ""}${score}`);
        button.addEventListener("click", () => model.send({ pick: i, row: name }));
        if (place === kept) button.focus();
      });
    }
    const words = make("p", rows, { "aria-live": "polite" });
    for (const [name, captions] of model.get("words"))
      make("div", words, {}, `${name}: ${captions.join(" · ")}`);
  };
  return follow(model, update);
} };
