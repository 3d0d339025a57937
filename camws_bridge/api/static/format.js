/** Numbers and codes in the words people read. */

const DEGREES = 180 / Math.PI;

const WORDS = {
  no_images: 'No images are arriving from the camera.',
  stale: 'The camera has stopped sending. What is shown is old.',
  no_calibration: 'The camera has no calibration yet, so there are no poses.',
  board_lost: 'The board is not in view.',
  no_depth: 'No depth image arrives that belongs to the camera image.',
  starting: 'The bridge has just started and waits for the first image.',
};

const TITLES = {
  color: 'Camera',
  rectified: 'Rectified',
  aruco_debug: 'Markers and axes',
  board_perspective: 'Board from above',
  board_mask: 'Board mask',
  marker_mask: 'Marker mask',
  depth: 'Depth',
  depth_raw: 'Depth, 16 bit',
  transforms_camera: 'Camera',
  transforms_board: 'Board',
  transforms_robot: 'Robot',
};

/**
 * @param {string} code a status code of the protocol
 * @param {string} [message] what the server says itself, used for codes unknown here
 * @returns {string}
 */
export function words(code, message) {
  return WORDS[code] ?? (message || code.replaceAll('_', ' '));
}

/**
 * @param {string} id a stream's id, with or without its camera's name
 * @returns {{camera: string, product: string, title: string}}
 */
export function describe(id) {
  const cut = id.lastIndexOf('/');
  const camera = id.slice(0, Math.max(0, cut));
  const product = id.slice(cut + 1);
  const title = TITLES[product] ?? product.replaceAll('_', ' ');
  return { camera, product, title };
}

/**
 * @param {?number|undefined} value
 * @param {number} digits after the point
 * @returns {string} a dash for what is unknown
 */
export function fixed(value, digits) {
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    return '–';
  }
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace('-', '') : text;
}

/**
 * @param {?number} age seconds
 * @returns {string}
 */
export function formatAge(age) {
  if (age === null || !Number.isFinite(age)) {
    return '–';
  }
  if (age < -0.05) {
    return 'in the future';
  }
  if (age < 1) {
    return `${Math.max(0, age * 1000).toFixed(0)} ms`;
  }
  if (age < 60) {
    return `${age.toFixed(1)} s`;
  }
  return age < 3600 ? `${(age / 60).toFixed(0)} min` : `${(age / 3600).toFixed(0)} h`;
}

/**
 * @param {number} rate bytes per second
 * @returns {string}
 */
export function formatBitrate(rate) {
  return rate < 1e6
    ? `${(rate / 1e3).toFixed(rate < 1e4 ? 1 : 0)} KB/s`
    : `${(rate / 1e6).toFixed(2)} MB/s`;
}

/**
 * Roll, pitch and yaw about the fixed x, y and z axes (R = Rz·Ry·Rx, ROS REP 103).
 *
 * @param {{x: number, y: number, z: number, w: number}} q a unit quaternion
 * @returns {[number, number, number]} degrees
 */
export function rollPitchYaw({ x, y, z, w }) {
  const roll = Math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y));
  const pitch = Math.asin(Math.min(1, Math.max(-1, 2 * (w * y - z * x))));
  const yaw = Math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z));
  return [roll * DEGREES, pitch * DEGREES, yaw * DEGREES];
}

/**
 * Writes text only where it changes, so that nothing is laid out or read aloud twice.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}
