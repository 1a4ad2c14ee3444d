// The viewer: volumes of bytes (x, y, z), z fastest, on one grid, of which one slice at a time is drawn in every pane.
(async function () {
  const data = JSON.parse(byId("data").textContent);
  const SCALE = 4;
  const FURTHER = data.further.map((_, i) => `further${i}`); // other contrasts of the patient
  const PANES = ["scan", "recon", "map", "mask", ...FURTHER];
  // the axes that a plane shows, to the right and upwards; x runs to the left, the radiological view
  const RIGHT_LEFT = data.sides_known ? ["R", "L"] : ["?", "?"];
  const PLANES = {
    axial: { axis: 2, across: [0, 1], ends: [...RIGHT_LEFT, "A", "P"] },
    coronal: { axis: 1, across: [0, 2], ends: [...RIGHT_LEFT, "S", "I"] },
    sagittal: { axis: 0, across: [1, 2], ends: ["P", "A", "S", "I"] },
  };
  const SIGNS = ["x", "y", "z"];
  const state = { plane: "axial", voxel: data.start.slice(), level: 50, width: 100, opacity: 100, outline: true, chosen: 0 };

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  }

  async function unpack(base64) {
    const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  if (typeof DecompressionStream === "undefined") {
    byId("too-old").hidden = false;
    byId("viewer").hidden = true;
    return;
  }
  const volumes = {};
  for (const [name, packed] of Object.entries(data.volumes)) volumes[name] = await unpack(packed);
  const healthy = data.healthy && {
    ...data.healthy,
    mean: await unpack(data.healthy.volumes.mean),
    deviation: await unpack(data.healthy.volumes.deviation),
  };
  const colours = bytesOf(data.colours);

  const at = (i, j, k) => (i * data.shape[1] + j) * data.shape[2] + k;
  const mm = (axis, index) => data.origin[axis] + data.spacing[axis] * index;
  const signed = (value) => (value < 0 ? "-" : "+") + Math.abs(value).toFixed(0);
  const sideways = (x) => (data.sides_known ? signed(x) : "\u00b1" + Math.abs(x).toFixed(0));
  const side = (x) => (!data.sides_known ? "side not known" : x < 0 ? "left" : x > 0 ? "right" : "midline");

  // the voxel at column u and row v of the picture, or null outside the grid
  function voxelAt(u, v) {
    const { axis, across } = PLANES[state.plane];
    const [wide, high] = across.map((a) => data.shape[a]);
    if (u < 0 || v < 0 || u >= wide || v >= high) return null;
    const voxel = [0, 0, 0];
    voxel[axis] = state.voxel[axis];
    voxel[across[0]] = across[0] === 0 ? wide - 1 - u : u;
    voxel[across[1]] = high - 1 - v;
    return voxel;
  }

  function grey(value) {
    const low = state.level - state.width / 2;
    return clamp((255 * ((100 * value) / 255 - low)) / state.width, 0, 255);
  }

  function colour(pane, n) {
    if (!volumes.brain[n]) return [0, 0, 0];
    const g = grey(volumes[pane === "recon" || FURTHER.includes(pane) ? pane : "scan"][n]);
    if (pane === "map") return over(g, colours.subarray(3 * volumes.map[n], 3 * volumes.map[n] + 3));
    const label = pane === "mask" ? volumes.labels[n] : 0;
    if (!label) return [g, g, g];
    return over(g, label === state.chosen ? [255, 0.55 * g, 0.2 * g] : [0.35 * g + 150, 0.45 * g, 0.45 * g]);
  }

  // a colour of map or mask over the grey of the scan, as opaque as the slider says
  function over(g, [red, green, blue]) {
    const share = state.opacity / 100;
    return [red, green, blue].map((value) => g + share * (value - g));
  }

  const small = document.createElement("canvas");

  function draw(pane) {
    const { across, ends } = PLANES[state.plane];
    const [wide, high] = across.map((a) => data.shape[a]);
    const canvas = byId(pane);
    const pen = canvas.getContext("2d");
    small.width = wide;
    small.height = high;
    const picture = new ImageData(wide, high);
    for (let v = 0; v < high; v++) {
      for (let u = 0; u < wide; u++) {
        const [red, green, blue] = colour(pane, at(...voxelAt(u, v)));
        picture.data.set([red, green, blue, 255], 4 * (v * wide + u));
      }
    }
    small.getContext("2d").putImageData(picture, 0, 0);
    canvas.width = SCALE * wide;
    canvas.height = SCALE * high;
    pen.imageSmoothingEnabled = pane !== "map";
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (state.outline) outline(pen, wide, high);
    cross(pen, canvas);
    pen.font = "bold 15px sans-serif";
    pen.fillStyle = "#ffd24a";
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    pen.fillText(ends[0], 5, canvas.height / 2);
    pen.textAlign = "right";
    pen.fillText(ends[1], canvas.width - 5, canvas.height / 2);
    pen.textAlign = "center";
    pen.fillText(ends[2], canvas.width / 2, 11);
    pen.fillText(ends[3], canvas.width / 2, canvas.height - 10);
    if (state.plane !== "sagittal") return;
    pen.textAlign = "left";
    pen.fillText(side(mm(0, state.voxel[0])), 5, canvas.height - 10);
  }

  // edges between voxels that are marked and voxels that are not
  function outline(pen, wide, high) {
    const marked = (u, v) => {
      const voxel = voxelAt(u, v);
      return voxel !== null && volumes.labels[at(...voxel)] > 0;
    };
    pen.strokeStyle = "#38d9ff";
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let v = 0; v <= high; v++) {
      for (let u = 0; u <= wide; u++) {
        const here = marked(u, v);
        if (here !== marked(u - 1, v)) {
          pen.moveTo(SCALE * u, SCALE * v);
          pen.lineTo(SCALE * u, SCALE * (v + 1));
        }
        if (here !== marked(u, v - 1)) {
          pen.moveTo(SCALE * u, SCALE * v);
          pen.lineTo(SCALE * (u + 1), SCALE * v);
        }
      }
    }
    pen.stroke();
  }

  // the chosen point: four short strokes that leave it free
  function cross(pen, canvas) {
    const { across } = PLANES[state.plane];
    const [a, b] = across.map((axis) => state.voxel[axis] + 0.5);
    const u = SCALE * (across[0] === 0 ? data.shape[0] - a : a);
    const v = canvas.height - SCALE * b;
    pen.strokeStyle = "rgba(120, 255, 140, 0.8)";
    pen.lineWidth = 1;
    pen.beginPath();
    for (const [du, dv] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(u + 8 * du, v + 8 * dv);
      pen.lineTo(u + 18 * du, v + 18 * dv);
    }
    pen.stroke();
  }

  function say() {
    const { axis } = PLANES[state.plane];
    const place = mm(axis, state.voxel[axis]);
    const beside = axis === 0 ? ` (${side(place)})` : "";
    byId("place").textContent = `${SIGNS[axis]} = ${axis === 0 ? sideways(place) : signed(place)} mm${beside}`;
    read(state.voxel);
  }

  // what healthy scans have at a voxel, if the model knows it
  function range(voxel) {
    if (!healthy) return "";
    const [i, j, k] = voxel.map((index) => Math.floor(index / healthy.block));
    const n = (i * healthy.shape[1] + j) * healthy.shape[2] + k;
    const [mean, deviation] = [healthy.mean[n] / 255, healthy.deviation[n] / 255 / healthy.deviations];
    return ` (healthy ${mean.toFixed(2)} \u00b1 ${deviation.toFixed(2)})`;
  }

  // the values at a voxel: the one under the pointer, or else the chosen one
  function read(voxel) {
    const places = voxel.map((index, a) => mm(a, index));
    const n = at(...voxel);
    const parts = [`x ${sideways(places[0])}, y ${signed(places[1])}, z ${signed(places[2])} mm (${side(places[0])})`];
    if (volumes.brain[n]) {
      parts.push(`score ${((volumes.map[n] * data.score_max) / 255).toFixed(3)}`);
      parts.push(`scan ${(volumes.scan[n] / 255).toFixed(2)}${range(voxel)}`);
      parts.push(`pseudo-healthy ${(volumes.recon[n] / 255).toFixed(2)}`);
      FURTHER.forEach((pane, i) => parts.push(`${data.further[i]} ${(volumes[pane][n] / 255).toFixed(2)}`));
      parts.push(volumes.labels[n] ? `finding ${volumes.labels[n]}` : "not marked");
    } else {
      parts.push("outside the brain mask");
    }
    byId("readout").textContent = parts.join(" \u00b7 ");
  }

  let waiting = 0;
  let drawn = 0;
  function show() {
    ui.follow();
    say();
    if (!waiting) waiting = requestAnimationFrame(redraw);
  }
  function redraw() {
    waiting = 0;
    PANES.forEach(draw);
    document.documentElement.dataset.drawn = String(++drawn); // tests wait for it
  }

  const ui = controls({ state, shape: data.shape, planes: PLANES, show });
  document.addEventListener("keydown", ui.onKey);

  for (const pane of PANES) {
    const canvas = byId(pane);
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      from = { x: event.clientX, y: event.clientY, level: state.level, width: state.width, dragged: false };
      canvas.setPointerCapture(event.pointerId);
    });
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const u = Math.floor(((event.clientX - box.left) / box.width) * (canvas.width / SCALE));
      const v = Math.floor(((event.clientY - box.top) / box.height) * (canvas.height / SCALE));
      return voxelAt(u, v);
    };
    canvas.addEventListener("pointerleave", () => read(state.voxel));
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return read(under(event) || state.voxel);
      const [right, down] = [event.clientX - from.x, event.clientY - from.y];
      from.dragged = from.dragged || Math.hypot(right, down) > 4;
      if (from.dragged) ui.setWindow(from.level + down / 3, from.width + right / 2);
    });
    canvas.addEventListener("pointerup", (event) => {
      const voxel = under(event);
      if (from && !from.dragged && voxel) {
        state.voxel = voxel;
        show();
      }
      from = null;
    });
    canvas.addEventListener("pointercancel", () => (from = null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (event.ctrlKey || !event.deltaY) return;
        event.preventDefault();
        ui.move(event.deltaY < 0 ? 1 : -1);
      },
      { passive: false },
    );
  }

  const bar = byId("colours").getContext("2d");
  for (let n = 0; n < 160; n++) {
    const c = 3 * Math.floor((255 * n) / 159);
    bar.fillStyle = `rgb(${colours[c]}, ${colours[c + 1]}, ${colours[c + 2]})`;
    bar.fillRect(n, 0, 1, 10);
  }
  if (ui.rows.length) ui.choose(ui.rows[0]);
  else show();
})();
