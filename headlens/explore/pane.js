// A figure that is drawn anew in place, and tells which point was clicked with which keys held.
// plotly.js comes with one of the panes of a page and serves them all.

const shared = (globalThis.__headlensPlotly ??= (() => {
  let give;
  const ready = new Promise((resolve) => (give = resolve));
  return { ready, give, asked: false };
})());

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
    // Another version that the page already had is left to whoever brought it.
    if (others) globalThis.Plotly = others;
  }
}

function render({ model, el }) {
  const plot = document.createElement("div");
  plot.className = "headlens-pane";
  plot.setAttribute("role", "img");
  el.style.overflowX = "auto";
  el.style.width = "100%";
  el.appendChild(plot);
  let listening = false;
  let library = null;
  let hovered = null;

  function tell(point, add) {
    const number = Array.isArray(point.pointNumber) ? -1 : point.pointNumber;
    model.send({ x: point.x, y: point.y, number, add });
  }

  // A notebook takes a shift-click for a selection of cells and keeps it from the figure: so it is taken first.
  function pressed(event) {
    if (!event.shiftKey || event.button !== 0 || !event.composedPath().includes(plot)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (hovered) tell(hovered, true);
  }

  async function draw() {
    const text = model.get("figure");
    el.style.display = text ? "" : "none";
    if (!text) return;
    library = await shared.ready;
    const figure = JSON.parse(text);
    const meta = figure.layout.meta ?? {};
    plot.style.minWidth = `${meta.min_width ?? 0}px`;
    plot.setAttribute("aria-label", meta.alt ?? "");
    await library.react(plot, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    if (listening) return;
    listening = true;
    plot.on("plotly_hover", ({ points }) => (hovered = points[0] ?? null));
    plot.on("plotly_unhover", () => (hovered = null));
    plot.on("plotly_click", ({ points, event }) => {
      if (points[0]) tell(points[0], Boolean(event && (event.ctrlKey || event.metaKey)));
    });
  }

  window.addEventListener("mousedown", pressed, true);
  model.on("change:figure", draw);
  bring(model.get("library"));
  draw();
  const watcher = new ResizeObserver(() => {
    if (library && listening && plot.offsetWidth > 0) library.Plots.resize(plot);
  });
  watcher.observe(el);
  return () => {
    watcher.disconnect();
    window.removeEventListener("mousedown", pressed, true);
    model.off("change:figure", draw);
    if (library) library.purge(plot);
  };
}

export default { render };
