"use strict";
// The atlas in a browser. Data come as scripts (a page from a folder may load these, and nothing else); every text from
// them enters the page as a text node, never as markup. An address is what stands behind '#': a head, a search, a page.
const headlensAtlas = (() => {
  const atlases = {}, waiting = {};
  let main = null, other = null, score = 0, order = null;
  const $ = (id) => document.getElementById(id);

  function add(key, name, record) {
    if (name === "compare") { other = record; return; }
    atlases[key] ??= {};
    atlases[key][name] = record;
    if (name === "index") { main ??= key; }
    (waiting[`${key}/${name}`] ?? []).forEach((ready) => ready(record));
  }

  // ---- a small way to write elements ----------------------------------------------------------------------------
  function el(tag, settings, ...children) {
    const [name, ...classes] = tag.split(".");
    const node = document.createElement(name);
    if (classes.length) node.className = classes.join(" ");
    for (const [key, value] of Object.entries(settings ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") Object.entries(value).forEach(([k, v]) => node.style.setProperty(k, v));
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  }
  const count = (value) => value.toLocaleString("en");
  const number = (value, digits = 3) => value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
  const percent = (value) => value === null || value === undefined ? "–"
    : `${(100 * value).toFixed(!value || Math.abs(value) >= 0.0995 ? 0 : Math.abs(value) < 0.00995 ? 2 : 1)}\u00a0%`.replace("-", "−");
  // A head page writes shares in per cent; so do the maps and their lists.
  const scored = (name, value) => ["faithfulness of the label", "part of the margin"].includes(name) ? number(value, 4) : percent(value);
  const signed = (value, digits = 3) => value === null || value === undefined ? "–" : (value > 0 ? "+" : "") + number(value, digits);
  const link = (id) => el("a", {href: `#${id}`}, id);
  const table = (heads, rows, label, box = "div.wide") => el(box, null, el("table", {"aria-label": label},
    el("thead", null, el("tr", null, heads.map((h) => el(h.startsWith(">") ? "th.number" : "th", {scope: "col"}, h.replace(/^>/, ""))))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map((cell, i) => el(heads[i].startsWith(">") ? "td.number" : i ? "td" : "td.head", null, cell)))))));

  function load(key, name) {
    if (atlases[key]?.[name]) return Promise.resolve(atlases[key][name]);
    return new Promise((ready, failed) => {
      (waiting[`${key}/${name}`] ??= []).push(ready);
      const folder = key === main ? "data" : "compare/data";
      document.head.append(el("script", {src: `${folder}/${name}.js`, onerror: () => failed(new Error(name))}));
    });
  }
  const picture = (key, row) => `${key === main ? "" : "compare/"}images/${String(row).padStart(7, "0")}.jpg`;

  // ---- the map --------------------------------------------------------------------------------------------------
  function rgb(name) {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim().replace("#", "");
    const whole = text.length === 3 ? [...text].map((c) => c + c).join("") : text;
    return [0, 2, 4].map((i) => parseInt(whole.slice(i, i + 2), 16));
  }
  const mix = (a, b, t) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(",")})`;
  function scaleOf(values) {
    const known = values.filter((v) => v !== null), low = Math.min(0, ...known), high = Math.max(0, ...known);
    const size = Math.max(-low, high) || 1, diverging = low < 0;
    const zero = rgb("--s0"), one = rgb("--s1"), ends = [rgb("--neg"), rgb("--pos")];
    const at = (v) => Math.pow(Math.min(1, Math.abs(v) / size), 0.6);
    return {
      diverging, low: diverging ? -size : 0, high: size,
      colour: (v) => mix(zero, diverging ? ends[v < 0 ? 0 : 1] : one, at(v)),
      strong: (v) => at(v) > 0.55,
      css: diverging ? `linear-gradient(90deg, ${mix(ends[0], ends[0], 0)}, ${mix(zero, zero, 0)}, ${mix(ends[1], ends[1], 0)})`
        : `linear-gradient(90deg, ${mix(zero, zero, 0)}, ${mix(one, one, 0)})`,
    };
  }
  function legend(scale, name) {
    return el("span.legend", null, scored(name, scale.low), el("i", {style: {background: scale.css}}), scored(name, scale.high),
      el("span", null, " · a dot marks a labelled head"));
  }
  function grid(index, values, scale, name, describe, address = (id) => id) {
    const box = el("div.grid", {role: "grid", "aria-label": name, style: {
      "grid-template-columns": `2.1em repeat(${index.heads_a_layer}, minmax(0, 1fr))`,
      "--cell": index.layers > 16 ? "22px" : index.layers > 8 ? "27px" : "38px",
    }});
    for (let layer = index.layers - 1; layer >= 0; layer--) {  // the last layer on top: it is read first
      const row = el("div", {role: "row", style: {display: "contents"}}, el("span.axis", {role: "rowheader"}, `L${layer}`));
      for (let head = 0; head < index.heads_a_layer; head++) {
        const place = layer * index.heads_a_layer + head, one = index.heads[place], value = values[place];
        const words = `${one.id}: ${one.label}. ${name}: ${scored(name, value)}`;
        const cell = el(`button.cell${value === null ? ".none" : ""}${one.clear ? ".clear" : ""}`, {
          role: "gridcell", tabindex: place === index.start ? 0 : -1, "data-place": place, "aria-label": words, type: "button",
          onclick: () => { location.hash = address(one.id); }, onfocus: () => describe(one, value), onmouseenter: () => describe(one, value),
        });
        if (value !== null) {
          cell.style.background = scale.colour(value);
          cell.style.setProperty("--dot", scale.strong(value) ? "var(--paper)" : "var(--ink)");
        }
        row.append(cell);
      }
      box.append(row);
    }
    box.append(el("span.axis"), ...Array.from({length: index.heads_a_layer}, (_, h) => el("span.axis", null, `${h}`)));
    box.addEventListener("keydown", (event) => {
      const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: index.heads_a_layer, ArrowDown: -index.heads_a_layer}[event.key];
      const place = Number(event.target.dataset?.place);
      const next = step === undefined ? null : box.querySelector(`[data-place="${place + step}"]`);
      if (!next || (Math.abs(step) === 1 && Math.floor((place + step) / index.heads_a_layer) !== Math.floor(place / index.heads_a_layer))) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    return box;
  }
  function chooser(index, redraw) {
    return el("label", null, "Colour by ", el("select", {id: "score", onchange: (event) => { score = Number(event.target.value); redraw(); }},
      index.scores.map(([name], i) => el("option", {value: i, selected: i === score}, name))));
  }
  const column = (index, i) => index.heads.map((head) => head.scores[i]);

  function map() {
    const index = atlases[main].index;
    score = Math.min(score, index.scores.length - 1);
    const values = column(index, score), scale = scaleOf(values), [name, unit] = index.scores[score];
    order = index.heads.map((_, i) => i).filter((i) => values[i] !== null).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b);
    index.start = order[0] ?? 0;
    const detail = el("p.detail", {"aria-live": "polite"}, "Point at a head, or move with the arrow keys; Enter opens its page.");
    const describe = (one, value) => detail.replaceChildren(el("b", null, one.id), ` ${one.label}`, el("br"), el("span.soft", null, `${name}: ${scored(name, value)}`));
    return ["Map of heads", [
      el("h1", null, `What ${index.heads.length} heads of ${index.model} encode`),
      el("p.soft", null, `${index.labelled} have a label that passed its test; the others have no clear meaning. Explained on ${count(index.explained_on)} images, labels tested on ${count(index.tested_on)} others, by ${count(index.bank)} texts. ${index.note}`),
      el("div.split", null,
        el("section", {"aria-label": "Map"}, el("div.bar", null, chooser(index, show), legend(scale, name)),
          el("p.soft.small", null, `${name}: ${unit}. Layers upwards, heads to the right.`), grid(index, values, scale, name, describe), detail),
        el("section", {"aria-label": "Heads in order"}, el("h2", null, `Largest ${name}`),
          table(["head", ">" + name, "label"], order.slice(0, 14).map((i) => [link(index.heads[i].id), scored(name, values[i]), index.heads[i].label]), `Heads by ${name}`))),
    ]];
  }

  // ---- search ---------------------------------------------------------------------------------------------------
  const SHOWN = 40, fold = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const IGNORED = new Set(["which", "what", "heads", "head", "encode", "encodes", "the", "a", "an", "of", "is", "about", "for", "do"]);
  function search(query) {
    const index = atlases[main].index, words = fold(query).split(/[^\p{L}\p{N}]+/u).filter((w) => w && !IGNORED.has(w));
    const begins = (text) => { const t = fold(text).split(/[^\p{L}\p{N}]+/u); return words.every((w) => t.some((x) => x.startsWith(w))); };
    const parts = [el("h1", null, `Which heads encode “${query}”?`)];
    if (!words.length) return [`Search: ${query}`, [...parts, el("p", null, "Type a word, such as water, or a head, such as L3H0.")]];
    const hit = index.texts.map(([text, category]) => begins(text) ? text : begins(category) ? `${text} (${category})` : null);
    const rows = [];
    index.heads.forEach((head) => {
      const label = head.clear && begins(head.label);
      const ends = head.ends.filter((i) => hit[i]), texts = head.texts.filter(([i]) => hit[i]), near = head.near.filter(([i]) => hit[i]);
      const share = Math.max(0, ...near.map(([, s]) => s)), span = texts.reduce((sum, [, s]) => sum + s, 0);
      if (!label && !ends.length && !texts.length && !near.length) return;
      const why = [label && "its label", ends.length && "an end of a pole", texts.length && `TextSpan (${percent(span)})`, near.length && `along a text (${percent(share)})`].filter(Boolean);
      const said = [...new Set([...ends, ...near.map(([i]) => i), ...texts.map(([i]) => i)])].slice(0, 3).map((i) => hit[i]);
      rows.push({head, why, said, strength: (label ? 10 : 0) + (ends.length ? 1 : 0) + share + span});
    });
    rows.sort((a, b) => b.strength - a.strength);
    const attribute = index.attribute, asked = attribute && [attribute.name, ...Object.entries(attribute.values).flat(2)].some(begins);
    if (asked) {
      const at = index.scores.findIndex(([name]) => name === "attribute"), by = column(index, at);
      const best = index.heads.map((_, i) => i).sort((a, b) => by[b] - by[a]).slice(0, 8);
      parts.push(el("h2", null, `The attribute ${attribute.name}`), el("p.soft", null, "Heads by the share of their variance along its texts."),
        table(["head", ">share", "label"], best.map((i) => [link(index.heads[i].id), percent(by[i]), index.heads[i].label]), "Heads by attribute"));
    }
    parts.push(el("h2", null, `${rows.length} of ${index.heads.length} heads`));
    if (!rows.length) parts.push(el("p", null, "No text of any head has this word. The bank can only name what is in it; a head may encode it all the same."));
    else parts.push(el("p.soft", null, "A labelled head first; then by how much of the head's variance the texts account for. Only a label was tested on held-out images."),
      table(["head", "found in", "texts", "label"], rows.slice(0, SHOWN).map((r) => [link(r.head.id), r.why.join(", "), r.said.join("; "), r.head.label]), "Heads found", "div.wide.rows"));
    if (rows.length > SHOWN) parts.push(el("p.soft", null, `${rows.length - SHOWN} weaker ones are not shown.`));
    return [`Search: ${query}`, parts];
  }

  // ---- a head ---------------------------------------------------------------------------------------------------
  function thumbnail(key, row, caption, below) {
    const words = caption.filter(Boolean).join(" · "), path = caption[caption.length - 1] ?? "";
    const image = el("img", {src: picture(key, row), alt: words, loading: "lazy", width: 96, height: 96, title: words});
    image.addEventListener("error", () => image.replaceWith(el("span.lost", null, "image not found")));
    return el("figure", null, image, el("figcaption", {title: path}, below, caption.length > 1 ? ` ${caption[0]}` : ""));
  }
  function pole(key, head, i) {
    const one = head.poles[i], seen = one.faithful;
    const side = (texts, end, name) => el("div", null, el("h3", null, name), el("ul.plain", null, texts.map((t) => el("li", null, t))),
      el("div.gallery", {role: "group", "aria-label": `Images: ${name}`}, end.map(([row, value]) => thumbnail(key, row, head.captions[row], signed(value)))));
    return el("div.pole", null,
      el("h3", null, `Pole ${i + 1}: ${one.name || "no texts"} `, el(one.clear ? "span.tag.yes" : "span.tag", null, one.clear ? "passed its test" : "not beyond chance")),
      el("p.soft.small", null, `${percent(one.share)} of the head's variance. `,
        seen ? `On ${count(seen.n)} held-out images its texts predict the head with rank correlation ${signed(seen.rho, 2)} (${signed(seen.interval[0], 2)} to ${signed(seen.interval[1], 2)}; random labels ${signed(seen.random, 2)}), AUROC ${number(seen.auroc, 2)}. ` : "It was not tested on images. ",
        `q ${number(one.q)}.`, one.consistency === null ? "" : ` ${percent(one.consistency)} of pairs of texts at an end share a category (p ${number(one.consistency_p)}).`),
      el("div.ends", null, side(one.high, head.ends[i][0], "Most"), side(one.low, head.ends[i][1], "Least")));
  }
  function tokenMap(key, one) {
    const [rows, columns] = one.shape, bytes = Uint8Array.from(atob(one.values), (c) => c.charCodeAt(0));
    const values = Array.from(new Int8Array(bytes.buffer), (v) => v * one.largest / 127);
    const canvas = el("canvas", {width: columns, height: rows, tabindex: 0, role: "img", "aria-label": `Token map, scale ±${one.end}`});
    const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
    values.forEach((v, i) => image.data.set([...(v < 0 ? [20, 98, 190] : [226, 100, 12]), 230 * Math.min(1, Math.abs(v) / one.end) ** 0.8], 4 * i));
    context.putImageData(image, 0, 0);
    const detail = el("span", {"aria-live": "polite"}, `scale ±${one.end.toPrecision(2)}`);
    const describe = (row, col) => { detail.textContent = `row ${row}, column ${col}: ${signed(values[row * columns + col], 4)}`; };
    let at = [0, 0];
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      at = [Math.min(rows - 1, Math.floor((event.clientY - box.top) / box.height * rows)), Math.min(columns - 1, Math.floor((event.clientX - box.left) / box.width * columns))].map((v) => Math.max(0, v));
      describe(...at);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      at = [Math.min(rows - 1, Math.max(0, at[0] + step[0])), Math.min(columns - 1, Math.max(0, at[1] + step[1]))];
      describe(...at);
    });
    return el("figure", null, el("div.map", null, el("img", {src: picture(key, one.row), alt: one.caption.filter(Boolean).join(" · ")}), canvas),
      el("figcaption", null, detail, el("br"), one.caption.length > 1 ? one.caption[0] : ""));
  }
  function facts(head, index) {
    const place = index.heads.findIndex((one) => one.id === head.head), task = head.task;
    const rank = (name) => {
      const at = index.scores.findIndex((s) => s[0] === name), by = column(index, at).filter((v) => v !== null).map(Math.abs);
      return `number ${1 + by.filter((v) => v > Math.abs(index.heads[place].scores[at])).length} of ${index.heads.length}`;
    };
    const fact = (name, value, more) => el("div", null, el("dt", null, name), el("dd", null, value, el("small", null, more)));
    return el("dl.facts", null,
      fact("share of variance", percent(head.variance), `of all heads' contributions; ${rank("share of variance")}`),
      task && fact("part of the margin", signed(task.part, 4), `of ${signed(task.margin, 4)} in all; ${rank("part of the margin")}`),
      task && fact("ablated: predictions changed", percent(task.changed), rank("predictions changed")),
      task?.accuracy && fact("ablated: accuracy", percent(task.accuracy[1]), `${percent(task.accuracy[0])} before`),
      head.attribute && fact(`attribute ${head.attribute.name}`, percent(head.attribute.share), `of its variance along the attribute's texts; rank ${head.attribute.rank} among the bank's ${head.attribute.of} texts`));
  }
  function body(key, head) {
    const index = atlases[key].index, task = head.task;
    if (!head.varies) return [facts(head, index), el("p", null, "What this head contributes is the same for all images, as after its ablation: there is nothing that it distinguishes, and no text to name it by.")];
    return [
      facts(head, index),
      el("h2", null, "What it distinguishes"),
      head.poles.length ? head.poles.map((_, i) => pole(key, head, i)) : el("p", null, "No direction holds 15 % of what varies in this head, so none is named or illustrated."),
      head.maps.length > 0 && [el("h2", null, "Where it reads"),
        el("p.soft.small", null, "Its contribution along pole 1, by patch: orange towards ‘most’, blue towards ‘least’. Each map has its own scale; point at a patch, or focus the map and use the arrow keys. Attention may gather what earlier layers moved between patches."),
        el("div.maps", null, head.maps.map((one) => tokenMap(key, one)))],
      el("div.split.even", null,
        el("section", null, el("h2", null, "TextSpan"), el("p.soft.small", null, `${percent(head.explained)} of its variance by ${head.texts.length === 1 ? "one text" : `${head.texts.length} texts`}. ${head.chance.length ? `Random directions explain ${percent(head.chance[head.chance.length - 1])} with ${head.chance.length}: many texts span a narrow head whatever they say.` : ""}`),
          table(["text", "category", ">share"], head.texts.map(([text, category, share]) => [text, category, percent(share)]), "TextSpan")),
        el("section", null, el("h2", null, "Single texts along which it varies most"), el("p.soft.small", null, "Each on its own, as a share of the head's variance; they overlap."),
          table(["text", "category", ">share"], head.near.map(([text, category, share]) => [text, category, percent(share)]), "Texts along"))),
      el("div.split.even", null,
        el("section", null, el("h2", null, "Similar heads"), head.similar.length
          ? [el("p.soft.small", null, "Correlation of their first poles over the images; a negative one orders them the other way round."),
            table(["head", ">correlation", "label"], head.similar.map(([id, r]) => [link(id), signed(r, 2), index.heads.find((one) => one.id === id).label]), "Similar heads")]
          : el("p", null, "None orders the images alike.")),
        task && el("section", null, el("h2", null, "Ablating it"), el("p.soft.small", null, `Direct mean ablation, on the ${index.tested_on} tested images: later layers see the original. ${task.accuracy ? "" : "Classes are the model's own predictions: the images have no labels of this task."}`),
          task.classes ? table(["class", ">accuracy", ">ablated", ">change"], task.classes.map(([name, a, b]) => [name, percent(a), percent(b), signed(100 * (b - a), 1)]), "Accuracy by class")
            : el("p", null, `${percent(task.changed)} of the predictions change.`))),
    ];
  }
  async function headPage(id) {
    const index = atlases[main].index, place = index.heads.findIndex((one) => one.id === id), head = await load(main, id);
    const ids = index.heads.map((one) => one.id), twin = other && atlases[other].index.heads.some((one) => one.id === id) ? await load(other, id) : null;
    const pager = el("div.pager", null, place > 0 && el("a", {href: `#${ids[place - 1]}`, rel: "prev"}, `← ${ids[place - 1]}`),
      place < ids.length - 1 && el("a", {href: `#${ids[place + 1]}`, rel: "next"}, `${ids[place + 1]} →`), el("span.soft.small", null, "keys: p, n"));
    const title = el("h1", null, `${id}: ${head.label}`);
    if (!twin) return [`${id}: ${head.label}`, [pager, title, body(main, head)]];
    const half = (key, one) => el("section", {"aria-label": atlases[key].index.model}, el("h2", null, atlases[key].index.model), el("p", null, one.label), body(key, one));
    return [`${id}: ${head.label}`, [pager, title, el("div.split.even", {id: "twins"}, half(main, head), half(other, twin))]];
  }

  // ---- two atlases ----------------------------------------------------------------------------------------------
  function compare() {
    const [a, b] = [atlases[main].index, atlases[other].index], name = a.scores[score][0], at = b.scores.findIndex((s) => s[0] === name);
    const detail = el("p.detail", {"aria-live": "polite"}, "Point at a head.");
    const left = column(a, score), right = at < 0 ? b.heads.map(() => null) : column(b, at), scale = scaleOf([...left, ...right]);
    const describe = (index) => (one, value) => detail.replaceChildren(el("b", null, `${one.id} `), `${index.model}: ${one.label}`, el("br"), el("span.soft", null, `${name}: ${scored(name, value)}`));
    a.start = b.start = 0;
    const half = (index, values) => el("section", {"aria-label": index.model}, el("h2", null, index.model), el("p.soft.small", null, `${index.labelled} of ${index.heads.length} heads labelled; ${index.images} images`), grid(index, values, scale, name, describe(index)));
    const parts = [el("h1", null, "Side by side"), el("div.bar", null, chooser(a, show), legend(scale, name)), el("div.split.even", {id: "sides"}, half(a, left), half(b, right)), detail];
    if (a.layers === b.layers && a.heads_a_layer === b.heads_a_layer) {
      const change = a.heads.map((_, i) => left[i] === null || right[i] === null ? null : right[i] - left[i]);
      const most = change.map((_, i) => i).filter((i) => change[i]).sort((x, y) => Math.abs(change[y]) - Math.abs(change[x])).slice(0, 20);
      parts.push(el("h2", null, "Heads that differ most"), most.length ? table(["head", ">first", ">second", ">change", "label, first", "label, second"],
        most.map((i) => [link(a.heads[i].id), scored(name, left[i]), scored(name, right[i]), (change[i] > 0 ? "+" : "") + scored(name, change[i]), a.heads[i].label, b.heads[i].label]), "Differences", "div.wide.rows") : el("p", null, "None differs in this score."));
    } else parts.push(el("p.soft", null, "The towers differ in shape, so that heads of one name are no pair."));
    if (at < 0) parts.push(el("p", null, `The second atlas has no “${name}”.`));
    return ["Side by side", parts];
  }
  function about() {
    const index = atlases[main].index, rows = [["model", index.model], ["fingerprint", index.fingerprint], ["images", `${index.images}; explained on ${index.explained_on}, tested on ${index.tested_on} (${index.splits ? index.splits.join(", ") : "random halves"})`],
      ["texts", `${index.bank}`], ["task", index.task ? index.task.join(", ") : "none was given"], ["attribute", index.attribute ? index.attribute.name : "none was given"]];
    return ["About", [el("h1", null, "About this atlas"), table(["what", "value"], rows, "Settings"),
      el("h2", null, "How to read it"),
      el("p", null, "A label is a pair of texts, one from each end of a direction in which the head varies. It is shown only where the texts predict the head on images that chose neither, better than random directions of the same head do, with false discoveries controlled over all heads. ‘No clear meaning’ says that none of this bank's texts passed; not that the head does nothing."),
      el("p", null, "Texts, similar heads and maps describe what a head varies in. What it does to a decision only an intervention shows: see what ablating it does, where a task was given."),
      el("h2", null, "Keys"), el("p", null, "/ search · arrow keys move on the map · Enter opens a head · p, n previous and next head · m map")]];
  }

  // ---- addresses ------------------------------------------------------------------------------------------------
  let turn = 0;
  async function show() {
    const own = ++turn, index = atlases[main].index;
    let made, hash = location.hash.slice(1);
    try { hash = decodeURIComponent(hash); } catch { /* a stray percent sign stands for itself */ }
    try {
      if (hash.startsWith("search/")) made = search(hash.slice(7));
      else if (hash === "about") made = about();
      else if (hash === "compare" && other) made = compare();
      else if (index.heads.some((one) => one.id === hash)) made = await headPage(hash);
      else if (hash === "" || hash === "main") made = map();
      else made = ["Not found", [el("h1", null, "There is no such page"), el("p", null, el("a", {href: "#"}, "To the map"))]];
    } catch (error) { made = ["Not found", [el("h1", null, "A file of this atlas is missing"), el("p", null, `${error.message}. Build the atlas again; it goes on where it is incomplete.`)]]; }
    if (own !== turn) return;  // the reader went on while data came
    const choosing = document.activeElement?.id === "score";
    document.title = `${made[0]} – atlas of heads`;
    $("main").replaceChildren(...[made[1]].flat(9).filter(Boolean));
    if (choosing) $("score")?.focus();
  }
  function start() {
    if (!main) { $("main").replaceChildren(el("p", null, "This atlas is not finished: build it again, it goes on where it stopped.")); return; }
    const index = atlases[main].index;
    $("model").textContent = index.model;
    $("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
    const ready = () => { $("to-compare").hidden = !other; show(); };
    window.addEventListener("hashchange", () => { window.scrollTo(0, 0); show(); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const query = $("query").value.trim(), head = index.heads.find((one) => one.id.toLowerCase() === query.toLowerCase());
      if (query) location.hash = head ? head.id : `search/${encodeURIComponent(query)}`;
    });
    document.addEventListener("keydown", (event) => {
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
      const go = {p: 'a[rel="prev"]', n: 'a[rel="next"]'}[event.key];
      if (event.key === "/") { event.preventDefault(); $("query").focus(); $("query").select(); }
      else if (event.key === "m") location.hash = "";
      else if (go) document.querySelector(go)?.click();
    });
    if (other) load(other, "index").then(ready, () => { other = null; ready(); });
    else ready();
  }
  return {add, start};
})();
