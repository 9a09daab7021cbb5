"use strict";
// Hover, touch and arrow keys over line charts: a cursor, dots on the lines, and the values as text.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function nearest(points, at) {
  let best = 0;
  points.forEach((point, i) => { if (Math.abs(point[0] - at) < Math.abs(points[best][0] - at)) best = i; });
  return best;
}

function follow(frame) {
  const data = JSON.parse(frame.dataset.hover);
  const plot = frame.querySelector("svg.plot"), readout = frame.querySelector(".readout");
  if (!data.series.length) return;
  const height = plot.getAttribute("height");
  const layer = element("g", { visibility: "hidden" });
  const cursor = element("line", { class: "cursor", y1: 0, y2: height });
  const dots = data.series.map((one) => element("circle", { class: `dot c-${one.colour}`, r: 4.5 }));
  layer.append(cursor, ...dots);
  plot.append(layer);
  const leader = data.series.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
  let index = leader.length - 1;

  function show(at) {
    index = nearest(leader, at);
    const x = leader[index][0];
    cursor.setAttribute("x1", `${x}%`);
    cursor.setAttribute("x2", `${x}%`);
    const lines = [`${data.x} ${leader[index][2]}`];
    data.series.forEach((one, i) => {
      const point = one.points[nearest(one.points, x)];
      const reached = Math.abs(point[0] - x) < 8;
      dots[i].setAttribute("cx", `${point[0]}%`);
      dots[i].setAttribute("cy", point[1]);
      dots[i].setAttribute("visibility", reached ? "inherit" : "hidden");
      if (reached) lines.push(`${one.name} ${point[3]}`);
    });
    readout.replaceChildren(...lines.map((line) => Object.assign(document.createElement("span"), { textContent: line })));
    readout.hidden = false;
    layer.setAttribute("visibility", "visible");
    const box = plot.getBoundingClientRect(), outer = frame.getBoundingClientRect();
    const centre = box.left - outer.left + (box.width * x) / 100;
    const left = x > 50 ? centre - readout.offsetWidth - 12 : centre + 12;
    readout.style.left = `${Math.max(0, Math.min(outer.width - readout.offsetWidth, left))}px`;
  }

  function hide() {
    readout.hidden = true;
    layer.setAttribute("visibility", "hidden");
  }

  function point(event) {
    const box = plot.getBoundingClientRect();
    show((100 * (event.clientX - box.left)) / box.width);
  }

  frame.addEventListener("pointermove", point);
  frame.addEventListener("pointerdown", point);
  frame.addEventListener("pointerleave", hide);
  frame.addEventListener("blur", hide);
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -leader.length, End: leader.length }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    show(leader[Math.max(0, Math.min(leader.length - 1, index + step))][0]);
  });
}

document.querySelectorAll("[data-hover]").forEach(follow);
