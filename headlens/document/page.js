// Tables that sort and can be saved, commands that can be copied, and the figures: in the colours of the page, again
// whenever those change, and in light colours on printed paper, where the meaning of the words is open.
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
    opened = Array.from(document.querySelectorAll("details.words:not([open]), details.part:not([open])"));
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

  // A table as CSV: its numbers unrounded, with the ends of every interval.
  const saveTable = (button) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([button.dataset.csv], { type: "text/csv" }));
    link.download = `${button.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "table"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // Columns sort by a click: numbers by what they begin with, all else as text; again, the other way round.
  const number = (text) => parseFloat(text.replace("−", "-"));
  const sortBy = (head) => {
    const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    const body = head.closest("table").tBodies[0];
    const value = (row) => row.cells[head.cellIndex].textContent.trim();
    const numeric = head.classList.contains("number");
    const rows = Array.from(body.rows).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!numeric) return x.localeCompare(y);
      return (Number.isNaN(number(x)) ? -Infinity : number(x)) - (Number.isNaN(number(y)) ? -Infinity : number(y));
    });
    if (order === "descending") rows.reverse();
    body.append(...rows);
    head.parentElement.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
  };
  document.querySelectorAll("thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(head));
    head.append(button);
  });
  document.querySelectorAll("button.csv").forEach((button) => button.addEventListener("click", () => saveTable(button)));
  document.querySelectorAll("button.copy").forEach((button) =>
    button.addEventListener("click", () => {
      const code = button.parentElement.nextElementSibling;
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      const done = () => (button.textContent = "Copied");
      // Pages from disk may not use the clipboard's own interface everywhere; the selection can always be copied.
      if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(done, () => {});
      else if (document.execCommand("copy")) done();
    })
  );

  // What is folded has no width to draw in until it is opened; a link to it opens it.
  document.querySelectorAll("details").forEach((fold) =>
    fold.addEventListener("toggle", () => {
      if (fold.open) figures.filter((one) => fold.contains(one.place)).forEach((one) => window.Plotly.Plots.resize(one.place));
    })
  );
  // Beside the page the contents are open; above it they are a bar, open until a place was chosen.
  const contents = document.querySelector("nav details");
  const beside = window.matchMedia("(min-width: 84rem) and (min-height: 30rem)");
  const fold = () => contents && (contents.open = beside.matches);
  fold();
  beside.addEventListener("change", fold);
  document.querySelectorAll("nav a").forEach((link) =>
    link.addEventListener("click", () => {
      fold();
      const target = document.querySelector(link.getAttribute("href"));
      if (target instanceof HTMLDetailsElement) target.open = true;
    })
  );
  const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) =>
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }),
    { rootMargin: "0px 0px -70% 0px" }
  );
  links.forEach((_, id) => seen.observe(document.getElementById(id)));

  drawAll();
  figures.forEach(offerPicture);
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", printed);
})();
