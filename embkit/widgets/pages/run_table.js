export default { render({ model, el }) {
  const wish = (name, value) => { model.set(name, value); model.save_changes(); };
  const root = make("div", el, { class: "embkit-runs" });
  const bar = make("div", root);
  const split = make("select", make("label", bar, {}, "split "));
  for (const name of model.get("splits")) make("option", split, { value: name }, name);
  split.addEventListener("change", () => wish("split", split.value));
  const find = make("input", make("label", bar, {}, " name has "), { type: "search" });
  find.addEventListener("input", () => wish("find", find.value));
  const count = make("span", bar, { role: "status" });
  const table = make("table", make("div", root, { class: "embkit-scroll", tabindex: 0 }));
  const update = () => {
    split.value = model.get("split");
    if (find.value !== model.get("find")) find.value = model.get("find");
    table.replaceChildren();
    const head = make("tr", make("thead", table));
    for (const name of model.get("columns")) {
      const mine = name === model.get("sort"), down = model.get("descending");
      const cell = make("th", head, { scope: "col",
        "aria-sort": mine ? (down ? "descending" : "ascending") : "none" });
      const button = make("button", cell, {}, name + (mine ? (down ? " ▼" : " ▲") : ""));
      button.addEventListener("click", () => model.send({ sort: name }));
    }
    const body = make("tbody", table), chosen = model.get("chosen");
    for (const cells of model.get("rows")) {
      const row = make("tr", body, { "aria-selected": chosen.includes(cells[0]) });
      for (const text of cells) make("td", row, {}, text);
      row.addEventListener("click", () => model.send({ choose: cells[0] }));
    }
    count.textContent = ` ${model.get("rows").length} approaches, ${chosen.length} chosen. ` +
      model.get("message");
  };
  return follow(model, update);
} };
