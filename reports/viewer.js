// The 3D viewer: one dialog with one canvas. Without WebGL, or without niivue, links lead to the static pictures.
(function () {
  const dialog = document.getElementById("viewer");
  if (!dialog) return;
  const cases = JSON.parse(document.getElementById("viewer-cases").textContent);
  const canvas = dialog.querySelector("canvas");
  const state = dialog.querySelector("[role=status]");
  const layers = [...dialog.querySelectorAll("input[data-layer]")];
  const keys = Object.keys(cases);
  const folder = document.body.dataset.volumes;
  let viewer = null;
  let shown = null;
  let turn = 0;

  // The canvas itself is asked, so that a page never holds a second WebGL context.
  const able = (() => {
    let answer;
    return () => (answer ??= typeof DecompressionStream === "function" && !!canvas.getContext("webgl2", { alpha: true }));
  })();

  const unzip = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  };
  const beside = (name) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = folder + name;
      script.addEventListener("load", resolve);
      script.addEventListener("error", () => reject(new Error(`${name} is not beside this page`)));
      document.head.append(script);
    });
  window.shiftkitVolumes = window.shiftkitVolumes || {};
  const volumes = async (name) => {
    const here = document.getElementById(`volumes-${name}`);
    if (here) return JSON.parse(here.textContent);
    if (!window.shiftkitVolumes[name]) await beside(`${name}.js`);
    return window.shiftkitVolumes[name];
  };

  // Gray to color: what is at half of the mask's edge is drawn half.
  const ramp = (red, green, blue) => ({ R: [0, red, red], G: [0, green, green], B: [0, blue, blue], A: [0, 90, 170], I: [0, 128, 255] });
  const COLORS = { reference: [86, 180, 233], prediction: [255, 140, 58], after: [204, 121, 167], tumor: [240, 228, 66] };
  const BITS = { reference: 1, prediction: 2, after: 4, tumor: 8 };

  const start = async () => {
    if (viewer) return viewer;
    if (!window.niivue) {
      const here = document.getElementById("niivue-packed");
      if (here) {
        // The page's policy knows the digest of this script and lets no other in.
        const script = document.createElement("script");
        script.textContent = await (await unzip(here.textContent)).text();
        document.head.append(script);
      } else {
        await beside("niivue.js");
      }
    }
    const made = new window.niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairWidth: 0.2, crosshairColor: [1, 1, 1, 0.6], show3Dcrosshair: true,
      isRadiologicalConvention: dialog.dataset.convention === "radiological",
      multiplanarShowRender: 1, multiplanarLayout: 2, renderOverlayBlend: 1, dragAndDropEnabled: false, logLevel: "silent",
      isCornerOrientationText: false, loadingText: "", isNearestInterpolation: false,
    });
    await made.attachToCanvas(canvas);
    for (const [name, color] of Object.entries(COLORS)) made.addColormap(`shiftkit-${name}`, ramp(...color));
    made.setSliceType(made.sliceTypeMultiplanar);
    viewer = made;
    return made;
  };

  const image = (buffer, name, colormap, opacity, low, high) =>
    window.niivue.NVImage.new(buffer, `${name}.nii`, colormap, opacity, null, low, high, true, 0, false, false, "", 0);
  const layer = (buffer, bit) => {
    const copy = buffer.slice(0);
    const offset = new DataView(copy).getFloat32(108, true);
    const voxels = new Uint8Array(copy, offset);
    voxels.forEach((value, place) => (voxels[place] = value & bit ? 255 : 0));
    return copy;
  };

  const describe = (one) => {
    dialog.querySelector("h2").textContent = `${one.participant}, ${one.spoken}`;
    const numbers = [one.numbers, one.status].filter(Boolean).join(" ");
    dialog.querySelector(".numbers").textContent = numbers;
    canvas.setAttribute("aria-label", `${one.participant}, ${one.spoken}: three planes and a 3D view. ${numbers}`);
    for (const input of layers) input.parentElement.hidden = !one.layers.includes(input.dataset.layer);
  };

  const load = async (key) => {
    const one = cases[key];
    const mine = ++turn;
    shown = key;
    describe(one);
    dialog.dataset.state = "loading";
    state.textContent = "Loading …";
    const nv = await start();
    const found = await volumes(one.volume);
    const gray = await (await unzip(found.image)).arrayBuffer();
    const bits = await (await unzip(found.overlays[key])).arrayBuffer();
    const made = [await image(gray, "image", "gray", 1, 0, 255)];
    for (const name of one.layers) made.push(await image(layer(bits, BITS[name]), name, `shiftkit-${name}`, 1, 0, 255));
    if (mine !== turn) return; // another case was asked for meanwhile
    while (nv.volumes.length) nv.removeVolumeByIndex(nv.volumes.length - 1);
    for (const volume of made) nv.addVolume(volume);
    nv.scene.crosshairPos = nv.mm2frac(one.center);
    nv.setRenderAzimuthElevation(one.hemisphere === "left" ? 250 : 110, 15);
    show();
    state.textContent = "";
    dialog.dataset.state = "ready";
  };
  const show = () => {
    const one = cases[shown];
    one.layers.forEach((name, place) => {
      const input = layers.find((other) => other.dataset.layer === name);
      viewer.setOpacity(place + 1, input.checked ? 0.55 : 0);
    });
    viewer.updateGLVolume();
  };

  const open = (key) => {
    if (!dialog.open) dialog.showModal();
    load(key).catch((error) => {
      dialog.dataset.state = "failed";
      state.textContent = `The viewer cannot show this case: ${error.message}. The static picture stands on the participant's page.`;
    });
    dialog.dispatchEvent(new CustomEvent("case", { detail: key }));
  };
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element && event.target.closest("[data-case]");
    if (!target || !cases[target.dataset.case] || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (able()) {
      event.preventDefault();
      open(target.dataset.case);
    } else if (cases[target.dataset.case].static) {
      location.href = cases[target.dataset.case].static;
    }
  });
  const step = (by) => open(keys[(keys.indexOf(shown) + by + keys.length) % keys.length]);
  dialog.querySelector("[data-step='-1']").addEventListener("click", () => step(-1));
  dialog.querySelector("[data-step='1']").addEventListener("click", () => step(1));
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  layers.forEach((input) => input.addEventListener("change", () => viewer && show()));
  dialog.querySelector("select").addEventListener("change", (event) => {
    if (viewer) viewer.setSliceType(viewer[event.target.value]);
  });
  const MOVES = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
  canvas.addEventListener("keydown", (event) => {
    if (!viewer || !MOVES[event.key]) return;
    event.preventDefault();
    viewer.moveCrosshairInVox(...MOVES[event.key]);
  });
})();
