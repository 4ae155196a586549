// The stage: one picture in layers, which can be zoomed and moved, with a divider between the original (left) and what became of it.
//
// The content is as large as the result, in CSS pixels, and is placed by one transform: translate(x, y) scale(s). The divider keeps its
// place on the screen while the picture moves below it; what lies left and right of it is cut by clip-path.
// Wheel and pinch zoom about the pointer. At the smallest zoom the page scrolls as if the stage were not there.

const DRAG_PX = 6; // the least movement that is one
const reduced = matchMedia('(prefers-reduced-motion: reduce)');
const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));

export class Viewer {
  #pointers = new Map();
  #gesture = null;
  #w = 0; #h = 0;
  #x = 0; #y = 0; #s = 1;
  #fitted = true;
  #split = 0;
  #moving = 0;

  /** @param {HTMLElement} stage @param {(zoom: number) => void} onZoom told the size of a picture's pixel in device pixels */
  constructor(stage, onZoom) {
    const find = name => stage.querySelector('.' + name);
    this.stage = stage;
    this.onZoom = onZoom;
    for (const name of ['content', 'preview', 'result', 'mask', 'attention', 'invented', 'before', 'divider']) this[name] = find(name);
    this.tags = stage.querySelectorAll('.tag');
    new ResizeObserver(() => this.#resized()).observe(stage);
    stage.addEventListener('wheel', e => this.#wheel(e), { passive: false });
    stage.addEventListener('keydown', e => this.#key(e));
    stage.addEventListener('dblclick', e => this.#toggleZoom(e));
    stage.addEventListener('pointerdown', e => this.#down(e));
    stage.addEventListener('pointermove', e => this.#move(e));
    for (const type of ['pointerup', 'pointercancel']) stage.addEventListener(type, e => this.#up(e));
  }

  /** Begin with an empty picture of this size. 0, 0: with none. */
  open(width, height) {
    cancelAnimationFrame(this.#moving);
    this.#w = width; this.#h = height;
    this.content.style.width = width + 'px';
    this.content.style.height = height + 'px';
    this.preview.getContext('2d').clearRect(0, 0, this.preview.width, this.preview.height);
    for (const layer of [this.result, this.mask, this.attention, this.invented, this.before]) layer.hidden = true;
    for (const picture of [this.result, this.invented, this.before]) picture.removeAttribute('src');
    this.content.hidden = !width;
    this.stage.classList.toggle('empty', !width);
    this.#compare(false);
    this.split(0);
    this.fit();
  }

  /** The original, or null for none. What the browser cannot draw counts as none. */
  async setBefore(url) {
    if (!url || !await drawn(this.before, url)) return;
    this.before.hidden = false;
    this.#compare(true);
  }

  /** The result. Resolves when it is on the screen; false when the browser cannot draw it. */
  async setResult(url) {
    if (!await drawn(this.result, url)) return false;
    this.result.hidden = false;
    return true;
  }

  async setInvented(url) { return drawn(this.invented, url); }

  /** Slide from the whole result to half of each, to show what there is to compare. */
  reveal() {
    if (this.divider.hidden) return;
    if (reduced.matches) { this.split(0.5); return; }
    const began = performance.now(), from = this.#split;
    const frame = now => {
      const t = Math.min(1, (now - began) / 700), eased = 1 - (1 - t) ** 3;
      this.split(from + (0.5 - from) * eased, true);
      if (t < 1) this.#moving = requestAnimationFrame(frame);
    };
    this.#moving = requestAnimationFrame(frame);
  }

  /** Show this share of the original, 0 to 1. */
  split(share, animated = false) {
    if (!animated) cancelAnimationFrame(this.#moving);
    this.#split = clamp(share, 0, 1);
    const percent = Math.round(this.#split * 100);
    this.divider.setAttribute('aria-valuenow', percent);
    this.divider.setAttribute('aria-valuetext', `${percent} % original`);
    this.#place();
  }

  get zoom() { return this.#s * devicePixelRatio; }

  fit() {
    this.#fitted = true;
    const { clientWidth: vw, clientHeight: vh } = this.stage;
    if (!this.#w || !vw) { this.#place(); return; }
    this.#s = this.#least();
    this.#x = (vw - this.#w * this.#s) / 2;
    this.#y = (vh - this.#h * this.#s) / 2;
    this.#place();
  }

  /** Zoom by a factor about a point of the stage, its middle when there is none. */
  zoomBy(factor, cx = this.stage.clientWidth / 2, cy = this.stage.clientHeight / 2) {
    if (!this.#w) return;
    const least = this.#least(), s = clamp(this.#s * factor, least, this.#most());
    if (s <= least * 1.001) { this.fit(); return; }
    this.#fitted = false;
    this.#x = cx - (cx - this.#x) * s / this.#s;
    this.#y = cy - (cy - this.#y) * s / this.#s;
    this.#s = s;
    this.#place();
  }

  // ---- geometry

  #least() {
    const { clientWidth: vw, clientHeight: vh } = this.stage;
    return Math.min(vw / this.#w, vh / this.#h, 4);
  }

  #most() { return Math.max(8 / devicePixelRatio, this.#least() * 4); }

  #resized() {
    if (this.#fitted) this.fit();
    else this.#place();
  }

  // Keep the picture in the stage, then write everything that follows from x, y, s and the split.
  #place() {
    const { clientWidth: vw, clientHeight: vh } = this.stage, w = this.#w * this.#s, h = this.#h * this.#s;
    this.#x = w <= vw ? (vw - w) / 2 : clamp(this.#x, vw - w, 0);
    this.#y = h <= vh ? (vh - h) / 2 : clamp(this.#y, vh - h, 0);
    this.content.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#s})`;
    this.content.classList.toggle('coarse', this.zoom >= 4);
    this.stage.classList.toggle('zoomed', !this.#fitted);
    const left = Math.max(0, this.#x), right = Math.min(vw, this.#x + w);
    const at = left + (right - left) * this.#split, percent = w ? clamp((at - this.#x) / w * 100, 0, 100) : 0;
    this.divider.style.transform = `translateX(${at}px)`;
    this.before.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    for (const layer of [this.mask, this.attention, this.invented]) layer.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.tags[0].style.opacity = at - left > 90 ? 1 : 0;
    this.tags[1].style.opacity = right - at > 90 ? 1 : 0;
    if (this.#w) this.onZoom(this.zoom);
  }

  #compare(on) {
    this.divider.hidden = !on;
    for (const tag of this.tags) tag.hidden = !on;
  }

  #splitAt(px) {
    const left = Math.max(0, this.#x), right = Math.min(this.stage.clientWidth, this.#x + this.#w * this.#s);
    this.split((px - left) / (right - left));
  }

  // ---- hands

  #local(e) {
    const box = this.stage.getBoundingClientRect();
    return [e.clientX - box.left - this.stage.clientLeft, e.clientY - box.top - this.stage.clientTop];
  }

  #wheel(e) {
    if (!this.#w || (this.#fitted && e.deltaY > 0 && !e.ctrlKey)) return;
    e.preventDefault();
    const px = e.deltaMode === 1 ? e.deltaY * 16 : e.deltaY;
    this.zoomBy(Math.exp(-clamp(px, -240, 240) * (e.ctrlKey ? 0.01 : 0.0022)), ...this.#local(e));
  }

  #toggleZoom(e) {
    if (!this.#fitted) { this.fit(); return; }
    this.zoomBy(Math.max(1 / devicePixelRatio / this.#s, 2.5), ...this.#local(e));
  }

  #down(e) {
    if (!this.#w || e.button || e.target.closest('.invite')) return;
    this.stage.setPointerCapture(e.pointerId);
    this.#pointers.set(e.pointerId, this.#local(e));
    if (this.#pointers.size === 2) { this.#gesture = { kind: 'pinch', ...this.#pinch() }; return; }
    const [x, y] = this.#local(e), onDivider = e.target.closest('.divider');
    if (onDivider) this.divider.focus({ preventScroll: true });
    this.#gesture = { kind: onDivider || (this.#fitted && !this.divider.hidden) ? 'split' : 'pan', began: !!onDivider, x, y };
  }

  #move(e) {
    if (!this.#pointers.has(e.pointerId) || !this.#gesture) return;
    const [x, y] = this.#local(e), g = this.#gesture;
    this.#pointers.set(e.pointerId, [x, y]);
    if (g.kind === 'pinch') {
      const now = this.#pinch();
      this.#x += now.x - g.x;
      this.#y += now.y - g.y;
      this.zoomBy(now.distance / g.distance, now.x, now.y);
      Object.assign(g, now);
      return;
    }
    if (!g.began && Math.hypot(x - g.x, y - g.y) < DRAG_PX) return;
    g.began = true;
    if (g.kind === 'split') { this.#splitAt(x); return; }
    this.#x += x - g.x;
    this.#y += y - g.y;
    g.x = x;
    g.y = y;
    this.#place();
  }

  #up(e) {
    this.#pointers.delete(e.pointerId);
    const [rest] = this.#pointers.values();
    this.#gesture = rest ? { kind: 'pan', began: true, x: rest[0], y: rest[1] } : null;
  }

  #pinch() {
    const [[ax, ay], [bx, by]] = [...this.#pointers.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, distance: Math.max(1, Math.hypot(ax - bx, ay - by)) };
  }

  #key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || !this.#w) return;
    const onDivider = e.target === this.divider, step = e.shiftKey ? 0.1 : 0.02;
    const slide = onDivider || (this.#fitted && !this.divider.hidden);
    const acts = {
      '+': () => this.zoomBy(1.25), '=': () => this.zoomBy(1.25), '-': () => this.zoomBy(0.8),
      0: () => this.fit(), 1: () => this.zoomBy(1 / this.zoom),
      ArrowLeft: () => (slide ? this.split(this.#split - step) : this.#pan(60, 0)),
      ArrowRight: () => (slide ? this.split(this.#split + step) : this.#pan(-60, 0)),
      ArrowUp: () => (onDivider ? this.split(this.#split + step) : this.#pan(0, 60)),
      ArrowDown: () => (onDivider ? this.split(this.#split - step) : this.#pan(0, -60)),
      PageUp: onDivider && (() => this.split(this.#split + 0.1)), PageDown: onDivider && (() => this.split(this.#split - 0.1)),
      Home: onDivider && (() => this.split(0)), End: onDivider && (() => this.split(1)),
    };
    if (!acts[e.key] || (this.#fitted && !onDivider && /^Arrow(Up|Down)$/.test(e.key))) return;
    e.preventDefault();
    acts[e.key]();
  }

  #pan(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#place();
  }
}

// Put a picture into an <img>, decoded before it is shown. false: this browser cannot.
async function drawn(img, url) {
  img.src = url;
  try {
    await img.decode();
    return img.getAttribute('src') === url;
  } catch {
    return false;
  }
}
