// A button over each cell of a heatmap of heads, for the keyboard, for screen readers, and for tests that look for "head 3.1".
// The pointer meets the buttons, too; plotly's own label is shown for the one under it.

function plain(markup) {
  return new DOMParser().parseFromString(markup.replaceAll("<br>", "; "), "text/html").body.textContent;
}

function coverCells(box, plot, tell) {
  const cover = document.createElement("div");
  cover.className = "headlens-cells";
  cover.setAttribute("role", "group");
  cover.setAttribute("aria-label", "heads");
  // A notebook has commands on arrows and letters of its own.
  cover.dataset.lmSuppressShortcuts = "true";
  box.appendChild(cover);
  const buttons = new Map();
  let shape = "";
  let library = null;
  let reached = null; // the one that Tab comes to

  function reach(button) {
    if (reached) reached.tabIndex = -1;
    reached = button;
    if (button) button.tabIndex = 0;
  }

  function make(layer, head) {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.setAttribute("aria-label", `head ${layer}.${head}`);
    const show = () => library.Fx.hover(plot, { xval: head, yval: layer }, "xy");
    const hide = () => library.Fx.unhover(plot);
    button.addEventListener("pointerenter", show);
    button.addEventListener("pointerleave", hide);
    button.addEventListener("blur", hide);
    button.addEventListener("focus", () => {
      reach(button);
      if (button.matches(":focus-visible")) show();
    });
    button.addEventListener("click", (event) => {
      button.focus({ preventScroll: true }); // not every browser does, nor where shift is held
      tell(head, layer, event.shiftKey || event.ctrlKey || event.metaKey);
    });
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      buttons.get(`${layer + step[0]}.${head + step[1]}`)?.focus();
    });
    cover.appendChild(button);
    buttons.set(`${layer}.${head}`, button);
  }

  // Called whenever plotly has drawn: sizes, numbers and the choice may have changed.
  function place(plotly, pressed) {
    library = plotly;
    const { xaxis, yaxis } = plot._fullLayout;
    const z = plot._fullData[0].z;
    const [layers, heads] = [z.length, z[0].length];
    if (shape !== `${layers}x${heads}`) {
      shape = `${layers}x${heads}`;
      cover.replaceChildren();
      buttons.clear();
      reach(null);
      for (let layer = layers - 1; layer >= 0; layer--) for (let head = 0; head < heads; head++) make(layer, head);
    }
    const chosen = new Set(pressed.map(([layer, head]) => `${layer}.${head}`));
    for (const [name, button] of buttons) {
      const [layer, head] = name.split(".").map(Number);
      const [left, right] = [xaxis.c2p(head - 0.5), xaxis.c2p(head + 0.5)];
      const [top, bottom] = [yaxis.c2p(layer + 0.5), yaxis.c2p(layer - 0.5)];
      button.style.left = `${xaxis._offset + left}px`;
      button.style.top = `${yaxis._offset + top}px`;
      button.style.width = `${right - left}px`;
      button.style.height = `${bottom - top}px`;
      button.setAttribute("aria-pressed", String(chosen.has(name)));
      button.setAttribute("aria-description", plain(plot.data[0].text[layer][head]));
    }
    if (!reached) reach(buttons.get([...chosen][0]) ?? buttons.values().next().value);
  }

  return { cover, place };
}
