"use strict";
// Zooms the diagrams, all to the same steps, and tells the values of a step. The points are read from the drawn lines.
const [LEFT, TOP, WIDTH, HEIGHT] = [66, 10, 640, 220];
const element = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const charts = [...document.querySelectorAll(".chart")].map((svg) => {
  const [first, last, low, high] = svg.dataset.ends.split(" ").map(Number);
  const lines = [...svg.querySelectorAll("polyline")].map((line) => ({
    name: line.dataset.name,
    points: line.getAttribute("points").split(" ").map((point) => {
      const [x, y] = point.split(",").map(Number);
      return [Math.round(first + (x / WIDTH) * (last - first)), high - (y / HEIGHT) * (high - low)];
    }),
  }));
  const chosen = svg.appendChild(element("rect", { class: "chosen", y: TOP, height: HEIGHT, width: 0 }));
  const cursor = svg.appendChild(element("line", { class: "cursor", y1: TOP, y2: TOP + HEIGHT, visibility: "hidden" }));
  const [plot, grid, said] = [svg.querySelector(".plot"), svg.querySelector(".grid"), svg.parentNode.querySelector("output")];
  return { svg, first, last, low, high, lines, chosen, cursor, plot, grid, said, whole: grid.cloneNode(true) };
});
let from = charts.length ? charts[0].first : 0;
let to = charts.length ? charts[0].last : 1;

const roundStep = (rough) => {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * (1 - 1e-9));
};
const ticks = (low, high, step) => {
  const start = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - start + 1 }, (_, place) => (start + place) * step);
};
const said = (value, digits) => {
  const size = Math.abs(value);
  if (size && size < 1e-4) return String(Number(value.toPrecision(Math.min(digits, 4))).toExponential());
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
};

function show(chart) {
  const { first, last, low, high } = chart;
  if (from === first && to === last) {
    chart.plot.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    chart.grid.replaceChildren(...chart.whole.cloneNode(true).childNodes);
    return;
  }
  const seen = chart.lines.flatMap(({ points }) => points.filter(([step]) => step >= from && step <= to).map((point) => point[1]));
  let [bottom, top] = seen.length ? [Math.min(...seen), Math.max(...seen)] : [low, high];
  if (top - bottom <= 1e-9 * Math.abs(top)) [bottom, top] = [bottom - (Math.abs(bottom) || 1) / 2, top + (Math.abs(top) || 1) / 2];
  const step = roundStep((top - bottom) / 5);
  [bottom, top] = [Math.floor(bottom / step) * step, Math.ceil(top / step - 1e-9) * step];
  const x = (value) => ((value - first) / (last - first)) * WIDTH;
  const y = (value) => ((high - value) / (high - low)) * HEIGHT;
  chart.plot.setAttribute("viewBox", `${x(from)} ${y(top)} ${x(to) - x(from)} ${y(bottom) - y(top)}`);
  const made = [];
  for (const tick of ticks(bottom, top, step)) {
    const place = TOP + ((top - tick) / (top - bottom)) * HEIGHT;
    made.push(element("line", { x1: LEFT, x2: LEFT + WIDTH, y1: place, y2: place }));
    made.push(element("text", { x: LEFT - 8, y: place + 4, "text-anchor": "end" }, said(tick, 6)));
  }
  for (const tick of ticks(from, to, Math.max(1, roundStep((to - from) / 6)))) {
    const place = LEFT + ((tick - from) / (to - from)) * WIDTH;
    made.push(element("text", { x: place, y: 248, "text-anchor": "middle" }, said(tick, 12)));
  }
  chart.grid.replaceChildren(...made);
}

function point(step) {
  for (const { lines, cursor, said: output } of charts) {
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    output.textContent = "";
    if (step === null) continue;
    const place = LEFT + ((step - from) / (to - from)) * WIDTH;
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    output.textContent = lines.map(({ name, points }) => {
      const near = points.reduce((best, each) => (Math.abs(each[0] - step) < Math.abs(best[0] - step) ? each : best));
      return `step ${said(near[0], 12)}: ${said(near[1], 4)}${name ? ` (${name})` : ""}`;
    }).join(" · ");
  }
}

for (const { svg, chosen } of charts) {
  let start = null;
  const stepAt = (event) => {
    const { left, width } = svg.getBoundingClientRect();
    const share = (((event.clientX - left) / width) * 720 - LEFT) / WIDTH;
    return Math.round(from + Math.min(1, Math.max(0, share)) * (to - from));
  };
  const mark = (end) => {
    const [a, b] = [start, end].sort((one, other) => one - other).map((step) => LEFT + ((step - from) / (to - from)) * WIDTH);
    chosen.setAttribute("x", a);
    chosen.setAttribute("width", b - a);
  };
  svg.addEventListener("pointerdown", (event) => {
    start = stepAt(event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    point(stepAt(event));
    if (start !== null) mark(stepAt(event));
  });
  svg.addEventListener("pointerup", (event) => {
    const ends = [start, stepAt(event)].sort((one, other) => one - other);
    start = null;
    chosen.setAttribute("width", 0);
    if (ends[0] === null || ends[1] === ends[0]) return;
    [from, to] = ends;
    charts.forEach(show);
    point(null);
  });
  svg.addEventListener("pointercancel", () => {
    start = null;
    chosen.setAttribute("width", 0);
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("dblclick", () => {
    [from, to] = [charts[0].first, charts[0].last];
    charts.forEach(show);
  });
}
document.getElementById("hint").hidden = !charts.length;
