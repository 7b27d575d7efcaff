// Draws the figures in the colours of the page, again whenever those change, and in light colours on printed paper,
// where the meaning of the words is open.
(() => {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true };
  const figures = Array.from(document.querySelectorAll("script.figure"), (script) => ({
    place: document.getElementById(script.dataset.for),
    source: script.textContent,
  }));

  const draw = ({ place, source }, isDark, width) => {
    const { data, layout, dark: colours } = JSON.parse(source);
    const whole = { data, layout };
    if (isDark) {
      for (const [path, colour] of colours) {
        const last = path[path.length - 1];
        path.slice(0, -1).reduce((node, key) => node[key], whole)[last] = colour;
      }
    }
    if (width) layout.width = width;
    return window.Plotly.react(place, data, layout, config);
  };

  const drawAll = () =>
    figures.forEach((figure) => {
      figure.place.style.zoom = "";
      draw(figure, dark.matches);
    });

  // Paper is narrower than most windows and cannot be scrolled: a figure that needs more room is made smaller as a whole.
  const PAPER = 660;
  let opened = [];
  const print = () => {
    opened = Array.from(document.querySelectorAll("details.words:not([open])"));
    opened.forEach((fold) => (fold.open = true));
    figures.forEach((figure) => {
      const width = Math.max(PAPER, parseFloat(figure.place.style.minWidth) || 0);
      figure.place.style.zoom = String(PAPER / width);
      draw(figure, false, width);
    });
  };
  const printed = () => {
    opened.forEach((fold) => (fold.open = false));
    drawAll();
  };

  // A button of the page's own: plotly's lie inside the figure, which is one image to those who hear the page.
  const offerPicture = ({ place }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Save as picture";
    button.setAttribute("aria-label", `Save as picture: ${place.parentElement.getAttribute("aria-label")}`);
    button.addEventListener("click", () =>
      window.Plotly.downloadImage(place, { format: "png", scale: 2, filename: `headlens-${place.id}` })
    );
    place.closest("figure").querySelector("figcaption").append(button);
  };

  drawAll();
  figures.forEach(offerPicture);
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", printed);
})();
