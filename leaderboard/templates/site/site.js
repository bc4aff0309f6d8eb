// Sorts and filters tables, draws charts, switches the theme. Without it, all figures are there to be read.
"use strict";

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

// --- sorting: a button in each head; the first press sorts figures from the best, texts from A

function sortable(table) {
  for (const head of table.tHead.rows[0].cells) {
    if (head.dataset.sort === "off") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head));
  }
}

function value(row, column, numeric) {
  const text = row.cells[column].textContent.trim();
  if (!numeric) return text.toLowerCase();
  return text ? parseFloat(text.replace(/,/g, "").replace(/^<\s*/, "")) : NaN;
}

function sort(table, head) {
  const numeric = head.classList.contains("num");
  const first = numeric ? "descending" : "ascending";
  const other = numeric ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [value(row, head.cellIndex, numeric), row]);
  rows.sort(([a], [b]) => {
    if (numeric) return (isNaN(a) - isNaN(b)) || sign * (a - b) || 0; // what is missing comes last
    return sign * a.localeCompare(b, "en", { numeric: true });
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

// --- filters: choices are kept in the address, after #, so that a link may hold them

function filterable(form) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
  const controls = [...form.querySelectorAll("select, input")];
  const kept = new URLSearchParams(location.hash.slice(1));
  if (location.hash === "#all" || controls.some((control) => kept.has(control.name))) {
    for (const control of controls) control.value = kept.get(control.name) ?? "";
  }
  function apply() {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !controls.every(({ type, name, value }) => {
        if (!value) return true;
        const own = row.dataset[name];
        if (type !== "search" || value === `"${own}"`) return own === value || value === `"${own}"`;
        return own.toLowerCase().includes(value.trim().toLowerCase());
      });
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length} rows`;
  }
  function changed() {
    apply();
    const chosen = controls.filter(({ value }) => value).map(({ name, value }) => [name, value]);
    const hash = new URLSearchParams(chosen).toString();
    try { history.replaceState(null, "", `#${hash || "all"}`); } catch { /* not for local files in some browsers */ }
  }
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const control of controls) control.value = "";
    changed();
  });
  form.hidden = false;
  apply();
}

// --- charts: Vega-Lite specifications beside their places, drawn when they come near the screen

const darker = JSON.parse(document.body.dataset.dark); // each colour as it is on a dark page

function draw(place) {
  let text = place.parentNode.querySelector("script").textContent;
  if (isDark()) text = text.replace(/#[0-9A-F]{6}/gi, (colour) => darker[colour.toUpperCase()] ?? colour);
  const style = getComputedStyle(document.body);
  const quiet = isDark() ? "#98a1ad" : "#57606a";
  const line = isDark() ? "#2d333c" : "#e1e4e8";
  const config = {
    background: "transparent",
    font: style.fontFamily,
    view: { stroke: line },
    axis: { labelColor: quiet, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal" },
    legend: {
      labelColor: quiet, titleColor: quiet, titleFontWeight: "normal", symbolBaseFillColor: quiet, symbolBaseStrokeColor: quiet,
      layout: { bottom: { direction: "vertical", anchor: "start" } }, // under each other, for narrow screens
    },
  };
  const spec = JSON.parse(text);
  const hidden = hiddenIn(place);
  spec.datasets.values = spec.datasets.values.filter(({ method }) => !hidden.has(method));
  return vegaEmbed(place, spec, { actions: false, renderer: "svg", ast: true, config });
}

// the legend of a section's charts: methods whose box is not ticked are left out of all of them

const hiddenIn = (place) => {
  const boxes = place.closest("section").querySelectorAll(".keys input:not(:checked)");
  return new Set([...boxes].map(({ value }) => value));
};

function choosable(form) {
  const redraw = () => form.closest("section").querySelectorAll("[data-drawn]").forEach(draw);
  form.addEventListener("change", redraw);
  form.addEventListener("click", ({ target }) => {
    if (target.type !== "button") return;
    for (const box of form.querySelectorAll("input")) box.checked = target.value === "all";
    redraw();
  });
  form.hidden = false;
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    target.dataset.drawn = "";
    draw(target);
  }
}, { rootMargin: "600px" });

// --- theme

function themes(button) {
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const redraw = () => { name(); document.querySelectorAll("[data-drawn]").forEach(draw); };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("offlinemeta-theme", root.dataset.theme); } catch { /* it holds for this page */ }
    redraw();
  });
  system.addEventListener("change", redraw);
  button.hidden = false;
  name();
}

themes(document.getElementById("theme"));
document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("form.filters").forEach(filterable);
document.querySelectorAll("form.keys").forEach(choosable);
document.querySelectorAll(".chart").forEach((place) => seen.observe(place));
