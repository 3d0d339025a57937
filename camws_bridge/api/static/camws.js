/**
 * camws.js: a client of the camws_bridge WebSocket streams (subprotocol `camws.v1`).
 *
 * One file, no dependency, an ES module; import it from the bridge itself or copy it.
 *
 *     import { CamwsStream } from 'http://robot:8080/static/camws.js';
 *
 *     const stream = new CamwsStream('color', { server: 'http://robot:8080/' });
 *     stream.addEventListener('image', async ({ detail: picture }) => {
 *       const bitmap = await createImageBitmap(picture.toBlob());
 *       requestAnimationFrame(() => {
 *         canvas.getContext('2d').drawImage(bitmap, 0, 0);
 *         bitmap.close();
 *         picture.ack();                             // shown: the next one may come
 *         console.log(stream.age(picture.header.stamp), 's after capture');
 *       });
 *     });
 *     stream.open();
 *
 * Units: lengths are metres, angles radians, times seconds; stamps are `{sec, nanosec}` on the
 * server's clock. An `age` is seconds since capture, corrected by the measured clock offset.
 *
 * The page from which the module is used must be among the bridge's `allowed_origins` when it
 * is served by another host.
 *
 * @module camws
 */

/** The subprotocol spoken here. */
export const SUBPROTOCOL = 'camws.v1';

/** Shortest and longest wait before a new attempt, in seconds, before jitter. */
const BACKOFF_MIN = 0.25;
const BACKOFF_MAX = 2.0;

/** An attempt that has brought no `server_info` after this long is given up, in seconds. */
const OPEN_TIMEOUT = 8.0;

/** Time round trips: spacing while the clock is unknown, then spacing for ever, in seconds. */
const TIME_BURST = 0.15;
const TIME_INTERVAL = 5.0;

/** A connection that leaves a `time` request unanswered this long is dead, in seconds. */
const TIME_TIMEOUT = 10.0;

/** Close codes after which the same request cannot succeed: 4400 bad option, 4404 no stream. */
const FINAL_CODES = new Set([4400, 4404]);

const PREFIX_LENGTH = 8;
const KIND_IMAGE = 1;
const decoder = new TextDecoder();

/**
 * The local clock: seconds since the Unix epoch, finer than `Date.now()` and never set back.
 *
 * @returns {number} seconds
 */
export function now() {
  return (performance.timeOrigin + performance.now()) / 1000;
}

/**
 * A ROS stamp as seconds.
 *
 * @param {{sec: number, nanosec: number}} stamp
 * @returns {number} seconds on the server's clock
 */
export function seconds(stamp) {
  return stamp.sec + stamp.nanosec * 1e-9;
}

/**
 * Takes a binary `camws.v1` message apart: u8 version, u8 kind, u16 0, u32 header length (little
 * endian), the header as JSON padded with spaces, then the encoded image from a multiple of 8.
 *
 * @param {ArrayBuffer} buffer one whole message
 * @returns {{header: ImageHeader, data: Uint8Array}} the header, and a view of the image's bytes
 * @throws {Error} when the message is of another version or kind, or is cut short
 */
export function parseImageMessage(buffer) {
  if (buffer.byteLength < PREFIX_LENGTH) {
    throw new Error(`camws: message of ${buffer.byteLength} bytes is too short`);
  }
  const view = new DataView(buffer);
  const version = view.getUint8(0);
  const kind = view.getUint8(1);
  if (version !== 1 || kind !== KIND_IMAGE) {
    throw new Error(`camws: message of version ${version}, kind ${kind} is unknown`);
  }
  const length = view.getUint32(4, true);
  const start = Math.ceil((PREFIX_LENGTH + length) / 8) * 8;
  if (start > buffer.byteLength) {
    throw new Error(`camws: header of ${length} bytes is longer than its message`);
  }
  const header = JSON.parse(decoder.decode(new Uint8Array(buffer, PREFIX_LENGTH, length)));
  return { header, data: new Uint8Array(buffer, start) };
}

/**
 * The offset between the server's clock and this machine's, from NTP-style round trips.
 *
 * Each round trip bounds the offset to within half its delay; the one with the shortest delay of
 * the last minute is believed. A round trip whose bounds exclude the believed one shows that a
 * clock was set (or the computer slept): everything older is forgotten. One clock may be shared
 * by all streams of one server.
 */
export class ServerClock {
  static #KEEP = 60;
  static #DRIFT = 0.005;

  /** @type {{offset: number, delay: number, at: number}[]} */
  #samples = [];

  /**
   * Takes one round trip in.
   *
   * @param {number} t0 sent here, local seconds
   * @param {number} t1 received there, server seconds
   * @param {number} t2 sent there, server seconds
   * @param {number} t3 received here, local seconds
   */
  add(t0, t1, t2, t3) {
    const sample = {
      offset: ((t1 - t0) + (t2 - t3)) / 2,
      delay: Math.max(0, (t3 - t0) - (t2 - t1)),
      at: t3,
    };
    if (!Number.isFinite(sample.offset)) {
      return;
    }
    const best = this.#best();
    if (best) {
      const tolerance = (best.delay + sample.delay) / 2 + ServerClock.#DRIFT;
      if (Math.abs(best.offset - sample.offset) > tolerance) {
        this.#samples = [];
      }
    }
    this.#samples = this.#samples.filter(({ at }) => t3 - at < ServerClock.#KEEP);
    this.#samples.push(sample);
  }

  /** Forgets everything: another server process answers now. */
  reset() {
    this.#samples = [];
  }

  /** @returns {number} how many round trips the estimate rests on */
  get count() {
    return this.#samples.length;
  }

  /** @returns {?number} server time minus local time in seconds, null until known */
  get offset() {
    return this.#best()?.offset ?? null;
  }

  /** @returns {?number} the offset is right within plus or minus this, in seconds */
  get uncertainty() {
    const best = this.#best();
    return best ? best.delay / 2 : null;
  }

  /** @returns {?number} the server's clock now in seconds, null until known */
  now() {
    const { offset } = this;
    return offset === null ? null : now() + offset;
  }

  #best() {
    return this.#samples.reduce(
      (best, sample) => (best && best.delay <= sample.delay ? best : sample),
      /** @type {?{offset: number, delay: number, at: number}} */ (null),
    );
  }
}

/**
 * @typedef {object} ImageHeader
 * @property {string} stream
 * @property {number} seq the same for every product of one camera image
 * @property {{sec: number, nanosec: number}} stamp when the camera image was captured
 * @property {string} frame_id
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {string} content_type e.g. `image/jpeg`
 * @property {Object<string, object>} [embed] what the query option `embed` asked for
 */

/**
 * @typedef {object} StreamOptions
 * @property {string|URL} [server] the bridge's root address, `http(s)://host:port/`; by default
 *   the one this module was loaded from
 * @property {string} [token] passed as `?token=`
 * @property {Object<string, string|number|null|undefined>} [query] the protocol's options:
 *   `fps` (1/s), `width` (pixels), `quality` (1..100), `adaptive` (0 or 1), `id` (marker), `embed`;
 *   null is left out
 * @property {number} [window] how many messages may be on their way here once acks are sent; the
 *   server's own default (2) when not given
 * @property {ServerClock} [clock] shared by streams of one server; an own one by default
 */

/**
 * One stream of the bridge, kept connected until `close()`.
 *
 * Events (all are CustomEvents; what is named here is in `event.detail`):
 *
 * - `open`: the `server_info` object (`session_id` changes when the server was restarted).
 * - `image`: `{header, data, toBlob(), receivedAt, bytes, ack()}`. Call `ack()` when the picture
 *   has really been shown: from the first ack on, the server sends no more than `window`
 *   pictures ahead, and always the newest. Who never acks is sent everything.
 * - `json`: `{message, receivedAt, bytes, ack()}`, a message of a JSON stream.
 * - `status`: `{level, code, message}`, what the server says about the stream.
 * - `configured`: what is now in force after `configure()`.
 * - `close`: `{code, reason, retryIn}`; `retryIn` is seconds, or null when there will be no new
 *   attempt (codes 4400 and 4404: the request itself is wrong).
 * - `statechange`: the new `state`.
 * - `error`: an Error: a message that could not be read. The stream goes on.
 *
 * A lost connection is tried again for ever, after 0.25 s, then twice as long each time up to
 * 2 s, with jitter. A connection that is dead without saying so (Wi-Fi lost) is noticed within
 * 15 s by its unanswered time request.
 */
export class CamwsStream extends EventTarget {
  #id;
  #server;
  #token;
  #query;
  #window;
  #clock;
  /** @type {?WebSocket} */
  #socket = null;
  #state = 'closed';
  #attempts = 0;
  #lastCode = 0;
  /** @type {?object} */
  #info = null;
  #retryTimer = 0;
  #openTimer = 0;
  #timeTimer = 0;
  /** @type {?number} */
  #timeAsked = null;

  /**
   * @param {string} id e.g. `color`, or `front/color` when the bridge serves several cameras
   * @param {StreamOptions} [options]
   */
  constructor(id, options = {}) {
    super();
    this.#id = id;
    this.#server = new URL(options.server ?? '..', import.meta.url);
    this.#token = options.token ?? null;
    this.#query = { ...options.query };
    this.#window = options.window ?? null;
    this.#clock = options.clock ?? new ServerClock();
  }

  /** @returns {string} */
  get id() {
    return this.#id;
  }

  /**
   * `closed` (not wanted), `connecting` (first attempt), `open` (the server has introduced
   * itself) or `reconnecting`.
   *
   * @returns {'closed'|'connecting'|'open'|'reconnecting'}
   */
  get state() {
    return /** @type {any} */ (this.#state);
  }

  /** @returns {number} the code with which the last connection ended, 0 if none has */
  get lastCode() {
    return this.#lastCode;
  }

  /** @returns {?object} the server's `server_info`, null while not open */
  get info() {
    return this.#info;
  }

  /** @returns {ServerClock} */
  get clock() {
    return this.#clock;
  }

  /** @returns {string} the socket's address with all options */
  get url() {
    const path = this.#id.split('/').map(encodeURIComponent).join('/');
    const url = new URL(`ws/${path}`, this.#server);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    for (const [name, value] of Object.entries({ ...this.#query, token: this.#token })) {
      if (value !== null && value !== undefined && value !== '') {
        url.searchParams.set(name, String(value));
      }
    }
    return url.href;
  }

  /** Connects, and keeps connected until `close()`. Does nothing when that is so already. */
  open() {
    if (this.#state === 'closed') {
      this.#attempts = 0;
      this.#setState('connecting');
      this.#connect();
    }
  }

  /** Ends the connection; no event of it is delivered after this but `statechange`. */
  close() {
    this.#drop();
    this.#setState('closed');
  }

  /** Tries again now instead of when the back-off ends, e.g. when the network is back. */
  retry() {
    if (this.#state === 'reconnecting' && !this.#socket) {
      this.#drop();
      this.#connect();
    }
  }

  /**
   * Replaces query options by way of a new connection (for those that `configure` lacks).
   *
   * @param {Object<string, string|number|null|undefined>} query see `StreamOptions.query`
   */
  setQuery(query) {
    this.#query = { ...query };
    if (this.#state !== 'closed') {
      this.close();
      this.open();
    }
  }

  /**
   * Changes settings on the open connection; the answer comes as `configured`.
   *
   * @param {{fps?: number, width?: number, quality?: number, window?: number,
   *   embed?: string[]}} settings
   */
  configure(settings) {
    this.#send({ op: 'configure', ...settings });
  }

  /**
   * Seconds from the capture of something stamped `stamp` until now, on the server's clock.
   *
   * @param {{sec: number, nanosec: number}} stamp
   * @returns {?number} null until the clocks have been compared
   */
  age(stamp) {
    const serverNow = this.#clock.now();
    return serverNow === null ? null : serverNow - seconds(stamp);
  }

  #connect() {
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => this.#receive(socket, event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#socket = socket;
    this.#openTimer = setTimeout(() => this.#lost(1006, 'no answer'), OPEN_TIMEOUT * 1000);
  }

  /** Lets go of the socket without waiting for the other side, which may be gone. */
  #drop() {
    for (const timer of [this.#retryTimer, this.#openTimer, this.#timeTimer]) {
      clearTimeout(timer);
    }
    this.#timeAsked = null;
    this.#info = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #lost(code, reason) {
    this.#drop();
    this.#lastCode = code;
    let retryIn = null;
    if (!FINAL_CODES.has(code)) {
      const backoff = Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** this.#attempts);
      retryIn = backoff * (0.5 + 0.5 * Math.random());
      this.#attempts += 1;
      this.#retryTimer = setTimeout(() => this.#connect(), retryIn * 1000);
    }
    this.#emit('close', { code, reason, retryIn });
    if (this.#state !== 'closed') {
      this.#setState(retryIn === null ? 'closed' : 'reconnecting');
    }
  }

  /**
   * @param {WebSocket} socket
   * @param {string|ArrayBuffer} data
   */
  #receive(socket, data) {
    const receivedAt = now();
    try {
      if (typeof data === 'string') {
        this.#receiveText(socket, data, receivedAt);
      } else {
        this.#receiveImage(socket, data, receivedAt);
      }
    } catch (error) {
      this.#emit('error', error);
    }
  }

  /**
   * @param {WebSocket} socket
   * @param {ArrayBuffer} buffer
   * @param {number} receivedAt
   */
  #receiveImage(socket, buffer, receivedAt) {
    const { header, data } = parseImageMessage(buffer);
    this.#emit('image', {
      header,
      data,
      receivedAt,
      bytes: buffer.byteLength,
      toBlob: () => new Blob([data], { type: header.content_type }),
      ack: () => this.#ack(socket, header.seq),
    });
  }

  /**
   * @param {WebSocket} socket
   * @param {string} text
   * @param {number} receivedAt
   */
  #receiveText(socket, text, receivedAt) {
    const message = JSON.parse(text);
    switch (message.op) {
      case undefined:
        this.#emit('json', {
          message,
          receivedAt,
          bytes: text.length,
          ack: () => this.#ack(socket, message.seq),
        });
        break;
      case 'server_info':
        this.#opened(message);
        break;
      case 'time':
        this.#timeAsked = null;
        this.#clock.add(message.t0, message.t1, message.t2, receivedAt);
        break;
      case 'status':
      case 'configured':
        this.#emit(message.op, message);
        break;
      default: // Something newer than this client.
    }
  }

  /** @param {any} info */
  #opened(info) {
    clearTimeout(this.#openTimer);
    this.#attempts = 0;
    this.#info = info;
    if (this.#window !== null && info.capabilities?.includes('configure')) {
      this.configure({ window: this.#window });
    }
    this.#setState('open');
    this.#emit('open', info);
    if (this.#info === info && info.capabilities?.includes('time')) {
      this.#askTime(this.#clock.count < 5 ? 5 : 1);
    }
  }

  /** @param {number} burst how many round trips to make in quick succession */
  #askTime(burst) {
    const t0 = now();
    if (this.#timeAsked !== null && t0 - this.#timeAsked > TIME_TIMEOUT) {
      this.#lost(1006, 'the server has stopped answering');
      return;
    }
    this.#timeAsked ??= t0;
    this.#send({ op: 'time', t0 });
    const wait = burst > 1 ? TIME_BURST : TIME_INTERVAL;
    this.#timeTimer = setTimeout(() => this.#askTime(Math.max(1, burst - 1)), wait * 1000);
  }

  /**
   * @param {WebSocket} socket the one that brought the message: a newer one knows nothing of it
   * @param {number} seq
   */
  #ack(socket, seq) {
    if (socket === this.#socket) {
      this.#send({ op: 'ack', seq });
    }
  }

  /** @param {object} message */
  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(message));
    }
  }

  /** @param {'closed'|'connecting'|'open'|'reconnecting'} state */
  #setState(state) {
    if (state !== this.#state) {
      this.#state = state;
      this.#emit('statechange', state);
    }
  }

  /**
   * @param {string} name
   * @param {any} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
