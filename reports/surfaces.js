// Surfaces in 3-D: one small program for WebGL 2. Without it the still picture stays, and the page says so.
(function () {
  const VERTEX = `#version 300 es
    in vec3 point; in vec3 normal; in float shade;
    uniform mat3 view; uniform vec3 middle; uniform vec2 scale; uniform float depth;
    out vec3 facing; out float away;
    void main() {
      vec3 at = view * (point - middle);
      facing = view * normal; away = shade;
      gl_Position = vec4(at.xy * scale, -at.z * depth, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision mediump float;
    in vec3 facing; in float away;
    uniform vec3 color; uniform float glass; uniform float shaded;
    out vec4 ink;
    void main() {
      float light = abs(normalize(facing).z);
      // Dark to bright as in magma: near the reference violet, far from it yellow.
      vec3 ramp = mix(mix(vec3(0.27, 0.06, 0.46), vec3(0.86, 0.28, 0.41), min(away * 2.0, 1.0)),
                      vec3(0.99, 0.91, 0.55), max(away * 2.0 - 1.0, 0.0));
      vec3 base = mix(color, ramp, shaded);
      ink = glass > 0.5 ? vec4(color, 0.05 + 0.45 * pow(1.0 - light, 3.0)) : vec4(base * (0.35 + 0.65 * light), 1.0);
    }`;

  const unzip = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  const meshes = (scene, buffer) => {
    let offset = 0;
    return scene.parts.map((part) => {
      const packed = new Uint16Array(buffer, offset, 3 * part.points);
      const points = Float32Array.from(packed, (value, place) => scene.low[place % 3] + (value / 65535) * scene.span);
      offset += packed.byteLength;
      const n = 3 * part.triangles;
      // Three 16-bit numbers a point need not end where 32-bit ones may begin.
      const corners = part.wide
        ? new Uint32Array(buffer.slice(offset, offset + 4 * n))
        : new Uint32Array(new Uint16Array(buffer, offset, n));
      offset += (part.wide ? 4 : 2) * n;
      const shade = new Float32Array(part.points);
      if (part.shaded) {
        new Uint8Array(buffer, offset, part.points).forEach((value, place) => (shade[place] = value / 255));
        offset += part.points;
      }
      offset += (4 - (offset % 4)) % 4;
      const normals = new Float32Array(points.length);
      for (let place = 0; place < n; place += 3) {
        const [a, b, c] = [corners[place], corners[place + 1], corners[place + 2]].map((corner) => 3 * corner);
        const [ux, uy, uz] = [0, 1, 2].map((axis) => points[b + axis] - points[a + axis]);
        const [vx, vy, vz] = [0, 1, 2].map((axis) => points[c + axis] - points[a + axis]);
        const normal = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
        for (const corner of [a, b, c]) for (const axis of [0, 1, 2]) normals[corner + axis] += normal[axis];
      }
      return { ...part, data: [points, normals, shade], corners };
    });
  };

  const program = (gl) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return made;
  };

  const upload = (gl, made, mesh) => {
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    ["point", "normal", "shade"].forEach((name, place) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, mesh.data[place], gl.STATIC_DRAW);
      const where = gl.getAttribLocation(made, name);
      gl.enableVertexAttribArray(where);
      gl.vertexAttribPointer(where, place < 2 ? 3 : 1, gl.FLOAT, false, 0, 0);
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.corners, gl.STATIC_DRAW);
    return { kind: mesh.kind, label: mesh.label, shaded: mesh.shaded, n: mesh.corners.length, array };
  };

  // Rows: what points right, up and toward the viewer, as in surfaces.py.
  const turned = ([around, tilt]) => {
    const [s, c, t, u] = [Math.sin(around), Math.cos(around), Math.sin(tilt), Math.cos(tilt)];
    return [[-c, s, 0], [-t * s, -t * c, u], [s * u, c * u, t]];
  };
  const letter = (direction) => {
    const axis = direction.reduce((best, value, place) => (Math.abs(value) > Math.abs(direction[best]) ? place : best), 0);
    return ["RL", "AP", "SI"][axis][direction[axis] > 0 ? 0 : 1];
  };

  const start = async (section) => {
    const canvas = section.querySelector("canvas");
    const gl = typeof DecompressionStream === "function" && canvas.getContext("webgl2", { alpha: false, preserveDrawingBuffer: true });
    const state = section.querySelector("[role=status]");
    if (!gl) {
      state.textContent = "A still picture: this browser has no WebGL, so that it cannot be turned.";
      return;
    }
    const scene = JSON.parse(section.querySelector(".scene-data").textContent);
    const loaded = meshes(scene, await unzip(scene.data));
    const made = program(gl);
    const parts = loaded.map((mesh) => upload(gl, made, mesh));
    const head = loaded[loaded.length - 1].data[0];
    const ends = [0, 1, 2].map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let place = axis; place < head.length; place += 3) [low, high] = [Math.min(low, head[place]), Math.max(high, head[place])];
      return [low, high];
    });
    const middle = ends.map(([low, high]) => (low + high) / 2);
    const radius = Math.hypot(...ends.map(([low, high]) => (high - low) / 2));
    const at = (name) => gl.getUniformLocation(made, name);
    const tools = section.querySelector(".viewer-tools");
    const kinds = [...tools.querySelectorAll("[data-kind]")];
    const chooser = tools.querySelector("select");
    const shade = tools.querySelector("[data-shade]");
    const letters = [...section.querySelectorAll(".ends span")];
    let view = [...scene.view];
    let zoom = 1;

    const draw = () => {
      const { clientWidth, clientHeight } = canvas;
      const dense = Math.min(devicePixelRatio || 1, 2);
      canvas.width = Math.max(1, Math.round(clientWidth * dense));
      canvas.height = Math.max(1, Math.round(clientHeight * dense));
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0.043, 0.055, 0.071, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.useProgram(made);
      const rows = turned(view);
      const size = (1.45 * zoom) / radius;
      const narrow = canvas.width / canvas.height;
      gl.uniformMatrix3fv(at("view"), true, rows.flat());
      gl.uniform3fv(at("middle"), middle);
      gl.uniform2f(at("scale"), narrow > 1 ? size / narrow : size, narrow > 1 ? size : size * narrow);
      gl.uniform1f(at("depth"), 0.9 / radius);
      gl.enable(gl.DEPTH_TEST);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
      const on = new Set(kinds.filter((box) => box.checked).map((box) => box.dataset.kind));
      for (const part of parts) {
        if (!on.has(part.kind) || (part.label && chooser.value && part.label !== chooser.value)) continue;
        const glass = part.kind === "head";
        gl.depthMask(!glass);
        gl.uniform3fv(at("color"), scene.colors[part.kind].map((value) => value / 255));
        gl.uniform1f(at("glass"), glass ? 1 : 0);
        gl.uniform1f(at("shaded"), shade && shade.checked && part.shaded ? 1 : 0);
        gl.bindVertexArray(part.array);
        gl.drawElements(gl.TRIANGLES, part.n, gl.UNSIGNED_INT, 0);
      }
      gl.depthMask(true);
      const [right, up] = rows;
      const back = (direction) => direction.map((value) => -value);
      [back(right), right, up, back(up)].forEach((direction, place) => (letters[place].textContent = letter(direction)));
    };
    const turn = (across, down) => {
      view = [view[0] + across, Math.max(-1.57, Math.min(1.57, view[1] + down))];
      draw();
    };
    const enlarge = (factor) => {
      zoom = Math.max(0.4, Math.min(8, zoom * factor));
      draw();
    };
    const reset = () => {
      view = [...scene.view];
      zoom = 1;
      draw();
    };
    const keys = {
      ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.1), ArrowDown: () => turn(0, -0.1),
      "+": () => enlarge(1.15), "=": () => enlarge(1.15), "-": () => enlarge(1 / 1.15), 0: reset, Home: reset,
    };
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) turn(event.movementX * 0.01, event.movementY * 0.01);
    });
    canvas.addEventListener("wheel", (event) => {
      // The page scrolls on until the picture was chosen by a click or the keyboard.
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      enlarge(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    const leads = tools.querySelector("[data-leads]");
    const lead = () => {
      const { page } = chooser.selectedOptions[0].dataset;
      leads.hidden = !page;
      if (page) leads.href = page;
    };
    lead();
    tools.addEventListener("input", () => (lead(), draw()));
    tools.querySelector("[data-reset]").addEventListener("click", reset);
    section.querySelector(".still").style.display = "none";
    for (const shown of [canvas, tools, section.querySelector(".ends")]) shown.hidden = false;
    state.textContent = "Drag to turn; scroll to zoom once the picture is chosen. On the keyboard: arrows turn, + and − zoom, 0 goes back.";
    addEventListener("resize", draw);
    draw();
    section.dataset.state = "ready";
  };

  // Only what comes into sight is drawn.
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      start(entry.target).catch((error) => {
        entry.target.querySelector("[role=status]").textContent = `A still picture: the surfaces cannot be shown (${error.message}).`;
      });
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".surfaces").forEach((section) => watch.observe(section));
})();
