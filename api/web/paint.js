// Grey pictures made visible: the attention map in colours, and the mask as a veil over what is not being refined yet.

// Little to much attention; the colours rise in lightness, so that they can be told apart without seeing colour.
const RAMP = [[22, 18, 46], [46, 42, 104], [34, 96, 132], [38, 152, 128], [142, 200, 96], [248, 232, 140]];

function ramp(v) {
  const at = v / 255 * (RAMP.length - 1), i = Math.min(RAMP.length - 2, Math.floor(at)), f = at - i;
  return RAMP[i].map((c, k) => c + (RAMP[i + 1][k] - c) * f);
}

const COLOURS = Uint8ClampedArray.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 255 : ramp(i >> 2)[i % 4]));

// The grey values of a picture, reduced to at most `side` pixels.
async function greys(blob, side) {
  const full = await createImageBitmap(blob);
  const shrink = Math.min(1, side / Math.max(full.width, full.height));
  const width = Math.max(1, Math.round(full.width * shrink)), height = Math.max(1, Math.round(full.height * shrink));
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(full, 0, 0, width, height);
  full.close();
  return context.getImageData(0, 0, width, height);
}

function show(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** Draw a grey map in colours. @param {HTMLCanvasElement} canvas @param {Blob} blob */
export async function paintAttention(canvas, blob) {
  const image = await greys(blob, 768), p = image.data;
  for (let i = 0; i < p.length; i += 4) {
    const v = p[i] * 4;
    p[i] = COLOURS[v]; p[i + 1] = COLOURS[v + 1]; p[i + 2] = COLOURS[v + 2];
  }
  show(canvas, image);
}

/**
 * Draw a mask: a veil over what rests, a bright line where refining begins.
 * @param {HTMLCanvasElement} canvas
 * @param {Blob} blob white where a step refines
 */
export async function paintMask(canvas, blob) {
  const image = await greys(blob, 768), p = image.data, { width, height } = image;
  const active = new Uint8Array(width * height);
  for (let i = 0; i < active.length; i++) active[i] = p[4 * i] > 127 ? 1 : 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const edge = !active[i] && ((x > 0 && active[i - 1]) || (x < width - 1 && active[i + 1]) ||
        (y > 0 && active[i - width]) || (y < height - 1 && active[i + width]));
      const k = 4 * i;
      if (active[i]) p[k + 3] = 0;
      else if (edge) { p[k] = 110; p[k + 1] = 231; p[k + 2] = 196; p[k + 3] = 235; }
      else { p[k] = 12; p[k + 1] = 18; p[k + 2] = 24; p[k + 3] = 140; }
    }
  }
  show(canvas, image);
}

/** Draw a picture as it is. @param {HTMLCanvasElement} canvas @param {Blob} blob */
export async function paintPicture(canvas, blob) {
  const bitmap = await createImageBitmap(blob);
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext('2d').drawImage(bitmap, 0, 0);
  bitmap.close();
}

/** The bytes of a picture in an event. @param {{mime: string, base64: string}} image @returns {Blob} */
export function fromBase64(image) {
  return new Blob([Uint8Array.from(atob(image.base64), c => c.charCodeAt(0))], { type: image.mime });
}
