/**
 * 16-bit depth images: browsers keep only the upper 8 bits of a 16-bit PNG, in which a room is
 * nearly black. Here the PNG is taken apart at full depth and scaled to what is in view.
 */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Decodes a 16-bit grey PNG (not interlaced), after the PNG specification, chapters 5, 7 and 9.
 *
 * @param {Uint8Array} png
 * @returns {Promise<?{width: number, height: number, values: Uint16Array}>} millimetres, row by
 *   row; null when the PNG is of another kind
 */
export async function decodeGrey16(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  if (png.length < 33 || SIGNATURE.some((byte, index) => png[index] !== byte)) {
    return null;
  }
  const width = view.getUint32(16);
  const height = view.getUint32(20);
  const [bits, color, , , interlace] = png.subarray(24, 29);
  if (bits !== 16 || color !== 0 || interlace !== 0) {
    return null;
  }
  const inflated = await inflate(imageData(png, view));
  const bytes = unfilter(inflated, width * 2, height);
  const values = new Uint16Array(width * height);
  for (let i = 0; i < values.length; i += 1) {
    values[i] = (bytes[2 * i] << 8) | bytes[2 * i + 1];
  }
  return { width, height, values };
}

/**
 * Scales millimetres to grey, near bright and far dark; where there is no depth it is black.
 *
 * @param {{width: number, height: number, values: Uint16Array}} depth
 * @param {[number, number]} range millimetres shown brightest and darkest
 * @returns {ImageData}
 */
export function shade({ width, height, values }, [near, far]) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const scale = 215 / Math.max(1, far - near);
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    const grey = value === 0 ? 0
      : 40 + Math.round(Math.min(215, Math.max(0, (far - value) * scale)));
    pixels[i] = 0xff000000 | (grey * 0x010101);
  }
  return image;
}

/**
 * The range of depths in view, without the two outermost hundredths at each end.
 *
 * @param {Uint16Array} values millimetres, 0 = none
 * @returns {?[number, number]} nearest and farthest in millimetres, null when there is no depth
 */
export function depthRange(values) {
  const sample = [];
  const step = Math.max(1, Math.floor(values.length / 4001));
  for (let i = 0; i < values.length; i += step) {
    if (values[i] !== 0) {
      sample.push(values[i]);
    }
  }
  sample.sort((a, b) => a - b);
  const at = (part) => sample[Math.min(sample.length - 1, Math.floor(part * sample.length))];
  return sample.length ? [at(0.02), at(0.98)] : null;
}

/**
 * @param {Uint8Array} png
 * @param {DataView} view
 * @returns {Uint8Array[]} the contents of all IDAT chunks
 */
function imageData(png, view) {
  const parts = [];
  for (let at = SIGNATURE.length; at + 12 <= png.length;) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) { // 'IDAT'
      parts.push(png.subarray(at + 8, at + 8 + length));
    }
    at += length + 12;
  }
  return parts;
}

/**
 * @param {Uint8Array[]} parts of one zlib stream
 * @returns {Promise<Uint8Array>}
 */
async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Undoes PNG's row filters in place; every pixel is two bytes.
 *
 * @param {Uint8Array} data rows, each after its filter byte
 * @param {number} stride bytes per row without the filter byte
 * @param {number} height
 * @returns {Uint8Array} rows without filter bytes
 */
function unfilter(data, stride, height) {
  if (data.length < (stride + 1) * height) {
    throw new Error('depth: the PNG is cut short');
  }
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const from = y * (stride + 1);
    const to = y * stride;
    const up = to - stride;
    const filter = data[from];
    for (let x = 0; x < stride; x += 1) {
      const left = x >= 2 ? out[to + x - 2] : 0;
      const above = y > 0 ? out[up + x] : 0;
      let guess = 0;
      if (filter === 1) {
        guess = left;
      } else if (filter === 2) {
        guess = above;
      } else if (filter === 3) {
        guess = (left + above) >> 1;
      } else if (filter === 4) {
        guess = paeth(left, above, x >= 2 && y > 0 ? out[up + x - 2] : 0);
      }
      out[to + x] = data[from + 1 + x] + guess;
    }
  }
  return out;
}

/**
 * @param {number} left
 * @param {number} above
 * @param {number} corner above left
 * @returns {number} PNG specification, 9.4
 */
function paeth(left, above, corner) {
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) {
    return left;
  }
  return toAbove <= toCorner ? above : corner;
}
