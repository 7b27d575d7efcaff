// A button that puts a text on the clipboard.

function render({ model, el }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.style.width = "auto";
  const name = () => model.get("label");
  button.textContent = name();
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(model.get("text"));
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser does not allow it: select the text below";
    }
    setTimeout(() => (button.textContent = name()), 2500);
  });
  el.appendChild(button);
}

export default { render };
