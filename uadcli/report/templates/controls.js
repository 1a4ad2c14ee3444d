"use strict";
// What the viewers of a scan share: controls, keys and the table of findings change the state, and `show` draws it. It is
// told whether more than the place has changed: window, opacity or scan.
const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function controls({ state, shape, planes, show }) {
  const names = Object.keys(planes);
  const rows = [...document.querySelectorAll("#components tbody tr")];

  // what the controls show, as the state is
  function follow() {
    const { axis } = planes[state.plane];
    const slider = byId("slice");
    slider.max = String(shape[axis] - 1);
    slider.value = String(state.voxel[axis]);
    for (const name of ["level", "width", "opacity"]) byId(name).value = String(state[name]);
    byId("outline").checked = state.outline;
    for (const radio of document.querySelectorAll("input[name=plane]")) radio.checked = radio.value === state.plane;
    for (const row of rows) row.classList.toggle("chosen", Number(row.dataset.index) === state.chosen);
  }

  function move(steps) {
    const { axis } = planes[state.plane];
    state.voxel[axis] = clamp(state.voxel[axis] + steps, 0, shape[axis] - 1);
    show();
  }
  function setWindow(level, width) {
    state.level = clamp(level, 0, 100);
    state.width = clamp(width, 2, 200);
    show(true);
  }
  function setOpacity(opacity) {
    state.opacity = clamp(opacity, 0, 100);
    show(true);
  }
  function setOutline(on) {
    state.outline = on;
    show();
  }
  function setPlane(plane) {
    state.plane = plane;
    show();
  }
  function choose(row) {
    state.chosen = Number(row.dataset.index);
    state.voxel = row.dataset.voxel.split(",").map(Number);
    show();
  }
  function chooseNext(step) {
    if (!rows.length) return;
    const now = rows.findIndex((row) => Number(row.dataset.index) === state.chosen);
    choose(rows[now < 0 ? 0 : (now + step + rows.length) % rows.length]);
  }

  const onInput = (id, act) => byId(id).addEventListener("input", (event) => act(Number(event.target.value)));
  onInput("slice", (value) => move(value - state.voxel[planes[state.plane].axis]));
  onInput("level", (value) => setWindow(value, state.width));
  onInput("width", (value) => setWindow(state.level, value));
  onInput("opacity", setOpacity);
  byId("reset").addEventListener("click", () => setWindow(50, 100));
  byId("outline").addEventListener("change", (event) => setOutline(event.target.checked));
  for (const row of rows) row.addEventListener("click", () => choose(row));
  for (const radio of document.querySelectorAll("input[name=plane]")) {
    radio.addEventListener("change", () => setPlane(radio.value));
  }

  const KEYS = {
    ArrowUp: () => move(1),
    ArrowDown: () => move(-1),
    PageUp: () => move(10),
    PageDown: () => move(-10),
    "[": () => setWindow(state.level, state.width - 5),
    "]": () => setWindow(state.level, state.width + 5),
    "-": () => setWindow(state.level - 2, state.width),
    "=": () => setWindow(state.level + 2, state.width),
    0: () => setWindow(50, 100),
    n: () => chooseNext(1),
    p: () => chooseNext(-1),
    o: () => setOutline(!state.outline),
    ",": () => setOpacity(state.opacity - 10),
    ".": () => setOpacity(state.opacity + 10),
  };
  names.forEach((name, i) => (KEYS[i + 1] = () => setPlane(name)));
  function onKey(event) {
    const act = KEYS[event.key];
    const own = /^(range|radio|select-one)$/.test(event.target.type); // arrows move these by themselves
    if (!act || event.ctrlKey || event.metaKey || event.altKey || (own && /^(Arrow|Page)/.test(event.key))) return;
    event.preventDefault();
    act();
  }

  return { rows, follow, move, setWindow, choose, onKey };
}
