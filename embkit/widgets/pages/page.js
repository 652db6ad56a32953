// What the pages of panels share. Text reaches a page as textContent, never as markup. Keys stop at
// the panel: in JupyterLab's command mode 1 makes a cell a heading and 0 0 restarts the kernel.
const make = (tag, parent, attributes = {}, text = "") => {
  const node = parent.appendChild(document.createElement(tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return Object.assign(node, { textContent: text });
};
const ofLab = ({ key, ctrlKey, metaKey, altKey, shiftKey }) => ctrlKey || metaKey || altKey ||
  ["Escape", "Tab"].includes(key) || (key === "Enter" && shiftKey);  // these are JupyterLab's
const follow = (model, update) => {
  update();
  model.on("change", update);
  return () => model.off("change", update);
};
