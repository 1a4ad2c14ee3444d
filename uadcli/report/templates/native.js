// The viewer in native space: NiiVue draws; controls, keys and the table of findings are those of the other page.
(async function () {
  const data = JSON.parse(byId("data").textContent);
  const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, DRAG_MODE } = niivue;
  const PLANES = {
    axial: { axis: 2, type: SLICE_TYPE.AXIAL },
    coronal: { axis: 1, type: SLICE_TYPE.CORONAL },
    sagittal: { axis: 0, type: SLICE_TYPE.SAGITTAL },
    all: { axis: 2, type: SLICE_TYPE.MULTIPLANAR },
  };
  const MOST = 255; // of a byte
  const GREY = { R: [0, 255], G: [0, 255], B: [0, 255], A: [255, 255], I: [0, 255] }; // black, not clear, at 0
  // A slice: the scan, the map over it, and the edge of the mask on top, two pixels wide at any zoom. NiiVue gives the
  // mask as 'drawing', and in 'drawRimOpacity' whether it is shown; its own shader hides the edge under the map.
  const SLICE = `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D overlay;
uniform highp sampler3D drawing;
uniform float overlays;
uniform float drawRimOpacity;
in vec3 texPos;
out vec4 color;
bool marked(vec3 place) {
  return texture(drawing, place).r > 0.0;
}
void main() {
  color = vec4(texture(volume, texPos).rgb, 1.0);
  if (overlays > 0.0) {
    vec4 over = texture(overlay, texPos);
    color.rgb = mix(color.rgb, over.rgb, over.a);
  }
  vec3 right = 2.0 * dFdx(texPos);
  vec3 up = 2.0 * dFdy(texPos);
  bool inner = marked(texPos - right) && marked(texPos + right) && marked(texPos - up) && marked(texPos + up);
  if (marked(texPos) && !inner) color.rgb = mix(color.rgb, vec3(0.22, 0.85, 1.0), drawRimOpacity);
}`;
  const state = { plane: "all", voxel: data.start.slice(), level: 50, width: 100, opacity: 60, outline: true, chosen: 0, picture: 0 };

  const canvas = byId("native");
  if (!document.createElement("canvas").getContext("webgl2")) {
    byId("too-old").hidden = false;
    byId("viewer").hidden = true;
    return;
  }
  const nv = new Niivue({
    backColor: [0, 0, 0, 1],
    clipPlaneHotKey: "",
    crosshairColor: [1, 0.82, 0.29, 0.6],
    crosshairGap: 8,
    crosshairWidth: 0.6,
    crosshairWidthUnit: "mm",
    cycleClipPlaneHotKey: "",
    dragAndDropEnabled: false,
    dragMode: DRAG_MODE.contrast,
    fontColor: [1, 0.82, 0.29, 1],
    isColorbar: false,
    isOrientationTextVisible: data.sides_known, // it would name sides
    isRadiologicalConvention: true,
    loadingText: "",
    logLevel: "error",
    multiplanarPadPixels: 16,
    multiplanarShowRender: SHOW_RENDER.NEVER,
    showAllOrientationMarkers: true,
    viewModeHotKey: "",
  });
  await nv.attachToCanvas(canvas, true);
  nv.addColormap("uad grey", GREY);
  nv.addColormap("uad score", withClearZero(data.colours));

  // a colour map that is clear at 0
  function withClearZero(map) {
    const put = (values, first) => [first, ...values];
    const places = [0, 1, ...map.I.slice(1)];
    return { R: put(map.R, 0), G: put(map.G, 0), B: put(map.B, 0), I: places, A: places.map((n) => (n ? MOST : 0)) };
  }

  const image = (base64, name, colormap, more) => NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, colormap, ...more });
  const pictures = [];
  for (const [i, one] of data.pictures.entries()) {
    pictures.push(await image(one.file, `scan${i}`, "uad grey", { cal_min: 0, cal_max: MOST, opacity: i ? 0 : 1 }));
  }
  const range = { cal_min: data.faintest, cal_max: data.score_max, opacity: state.opacity / 100 };
  const map = await image(data.map, "map", "uad score", range);
  const labels = await image(data.labels, "labels", "uad grey", {});
  for (const one of [...pictures, map]) nv.addVolume(one);
  nv.loadDrawing(labels);
  nv.setCustomSliceShader(SLICE);

  const valueAt = (volume, [i, j, k]) => volume.getValue(i, j, k);
  const sign = (value) => (value < 0 ? "-" : "+") + Math.abs(value).toFixed(1);

  function say() {
    const { axis } = PLANES[state.plane];
    byId("place").textContent = `${state.voxel[axis] + 1} of ${data.shape[axis]}`;
    const mm = data.affine.slice(0, 3).map((row) => row[3] + state.voxel.reduce((sum, n, a) => sum + row[a] * n, 0));
    const across = data.sides_known ? sign(mm[0]) : "\u00b1" + Math.abs(mm[0]).toFixed(1);
    const parts = [`x ${across}, y ${sign(mm[1])}, z ${sign(mm[2])} mm`];
    const label = Math.round(valueAt(labels, state.voxel));
    if (valueAt(pictures[0], state.voxel) > 0) {
      parts.push(`score ${valueAt(map, state.voxel).toFixed(3)}`, label ? `finding ${label}` : "not marked");
    } else {
      parts.push("outside the brain mask");
    }
    byId("readout").textContent = parts.join(" \u00b7 ");
  }

  let drawn = 0;
  // what is cheap: the place; `colours` has changed only with the window, the opacity or the scan
  function show(colours = false) {
    const { type } = PLANES[state.plane];
    ui.follow();
    if (byId("picture")) byId("picture").value = String(state.picture);
    if (colours) paint();
    nv.drawRimOpacity = state.outline ? 1 : 0;
    nv.scene.crosshairPos = nv.vox2frac(state.voxel);
    if (nv.opts.sliceType !== type) nv.setSliceType(type);
    nv.drawScene();
    say();
    document.documentElement.dataset.drawn = String(++drawn); // tests wait for it
  }

  function paint() {
    const low = (MOST * (state.level - state.width / 2)) / 100;
    for (const [i, one] of pictures.entries()) {
      one.cal_min = Math.max(low, 0); // what is outside the brain stays black
      one.cal_max = Math.max(low + (MOST * state.width) / 100, one.cal_min + 1);
      one.opacity = i && i !== state.picture ? 0 : 1;
    }
    map.opacity = state.opacity / 100;
    nv.updateGLVolume();
  }

  const ui = controls({ state, shape: data.shape, planes: PLANES, show });
  if (byId("picture")) {
    byId("picture").addEventListener("change", (event) => {
      state.picture = Number(event.target.value);
      show(true);
    });
  }

  function onKey(event) {
    if (event.target === canvas) event.stopPropagation(); // NiiVue has keys of its own
    ui.onKey(event);
  }
  document.addEventListener("keydown", onKey, true);
  document.addEventListener("keyup", (event) => event.target === canvas && event.stopPropagation(), true);

  // NiiVue moves the crosshair by mouse and touch, and sets the window by the right button
  nv.onLocationChange = () => {
    const place = Array.from(nv.frac2vox(nv.scene.crosshairPos), (n, a) => clamp(Math.round(n), 0, data.shape[a] - 1));
    if (place.every((n, a) => n === state.voxel[a])) return;
    state.voxel = place;
    show();
  };
  nv.onIntensityChange = (volume) => {
    const [low, high] = [volume.cal_min, volume.cal_max].map((value) => (100 * value) / MOST);
    ui.setWindow((low + high) / 2, high - low);
  };

  // the picture that a printer gets: a drawing buffer is lost once it has been shown
  window.addEventListener("beforeprint", () => {
    nv.drawScene();
    byId("paper").src = canvas.toDataURL();
  });

  const bar = byId("colours").getContext("2d");
  const scale = bar.createLinearGradient(0, 0, 160, 0);
  data.colours.I.forEach((n, i) => {
    scale.addColorStop(n / MOST, `rgb(${data.colours.R[i]}, ${data.colours.G[i]}, ${data.colours.B[i]})`);
  });
  bar.fillStyle = scale;
  bar.fillRect(0, 0, 160, 10);
  if (ui.rows.length) ui.choose(ui.rows[0]);
  show(true);
})();
