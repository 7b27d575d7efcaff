// A figure that is drawn anew in place, in the colours of the notebook's theme, and reports which point was clicked with
// which keys held.
// plotly.js comes with one of the panes of a page and serves them all.

const shared = (globalThis.__headlensPlotly ??= (() => {
  let give;
  const ready = new Promise((resolve) => (give = resolve));
  return { ready, give, asked: false };
})());

// JupyterLab and Notebook say on the body whether their theme is light, VS Code by a class; else the system decides.
const system = window.matchMedia("(prefers-color-scheme: dark)");
function inDark() {
  const { dataset, classList } = document.body;
  if (dataset.jpThemeLight !== undefined) return dataset.jpThemeLight === "false";
  if (classList.contains("vscode-light")) return false;
  if (classList.contains("vscode-dark") || classList.contains("vscode-high-contrast")) return true;
  return system.matches;
}

async function bring(source) {
  if (!source || shared.asked) return;
  shared.asked = true;
  const others = globalThis.Plotly;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    await import(url);
    shared.give(globalThis.Plotly);
  } finally {
    URL.revokeObjectURL(url);
    // Another version that the page already had is left to the extension that brought it.
    if (others) globalThis.Plotly = others;
  }
}

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "headlens-box";
  const plot = document.createElement("div");
  plot.className = "headlens-pane";
  plot.setAttribute("role", "img");
  box.appendChild(plot);
  el.style.overflowX = "auto";
  el.style.width = "100%";
  el.appendChild(box);
  const tell = (x, y, number, add) => model.send({ x, y, number, add });
  const cells = model.get("heads") ? coverCells(box, plot, (head, layer, add) => tell(head, layer, -1, add)) : null;
  let listening = false;
  let library = null;

  // A notebook takes a shift-click for a selection of its cells and keeps it from the figure: so it is taken first.
  function pressed(event) {
    if (event.shiftKey && event.button === 0 && event.composedPath().includes(cells?.cover)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  async function draw() {
    const text = model.get("figure");
    el.style.display = text ? "" : "none";
    if (!text) return;
    library = await shared.ready;
    const figure = JSON.parse(text);
    if (inDark()) {
      for (const [path, colour] of model.get("dark")) {
        const last = path[path.length - 1];
        path.slice(0, -1).reduce((node, key) => node[key], figure)[last] = colour;
      }
    }
    const meta = figure.layout.meta ?? {};
    plot.style.height = `${figure.layout.height ?? 450}px`; // else plotly takes it from the box when the width changes
    box.style.minWidth = `${meta.min_width ?? 0}px`;
    plot.setAttribute("aria-label", meta.alt ?? "");
    await library.react(plot, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    if (cells) cells.place(library, model.get("pressed"));
    if (listening) return;
    listening = true;
    if (cells) plot.on("plotly_afterplot", () => cells.place(library, model.get("pressed")));
    else plot.on("plotly_click", ({ points }) => points[0] && tell(points[0].x, points[0].y, points[0].pointNumber, false));
  }

  window.addEventListener("mousedown", pressed, true);
  model.on("change:figure", draw);
  bring(model.get("library"));
  draw();
  const watcher = new ResizeObserver(() => {
    if (library && listening && plot.offsetWidth > 0) library.Plots.resize(plot);
  });
  watcher.observe(el);
  const theme = new MutationObserver(draw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  system.addEventListener("change", draw);
  return () => {
    watcher.disconnect();
    theme.disconnect();
    system.removeEventListener("change", draw);
    window.removeEventListener("mousedown", pressed, true);
    model.off("change:figure", draw);
    if (library) library.purge(plot);
  };
}

export default { render };
