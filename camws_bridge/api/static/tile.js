/** One picture on the page: its socket, its canvas, its line of figures. */

import { CamwsStream } from './camws.js';
import { decodeGrey16, depthRange, shade } from './depth.js';
import { describe, fixed, formatAge, formatBitrate, setText, words } from './format.js';

/** Figures are of this many seconds, and a picture older than STALL is called old. */
const SPAN = 2.0;
const STALL = 1.5;

/** A tile must be out of view this long before its socket is closed, in seconds. */
const LINGER = 1.0;

/** The 16-bit PNG is decoded by script: not more often than this, in 1/s. */
const DEPTH_RAW_FPS = 10;

/** A close code that only other options can change; 4404 may change with the catalogue. */
const WRONG_OPTION = 4400;

const ECONOMY = { fps: 5, width: 320, quality: 60 };

/** Pictures that are ready, drawn together at the screen's next refresh. */
const ready = new Set();

/** @param {Tile} tile */
function drawSoon(tile) {
  if (ready.size === 0) {
    requestAnimationFrame(() => {
      const tiles = [...ready];
      ready.clear();
      tiles.forEach((each) => each.draw());
    });
  }
  ready.add(tile);
}

/**
 * Shows one image stream.
 *
 * A picture goes from `#waiting` (as received) through decoding to `#decoded` and onto the
 * canvas; in both places the newest replaces what is there. Acks are sent when a picture is on
 * the canvas, for it and for those it replaced, so the server's pace is that of the display: a
 * busy or hidden page is not sent more than it can show.
 */
export class Tile {
  /** @type {HTMLElement} */
  element;
  #entry;
  #context;
  #stream;
  #onChange;
  #canvas;
  #paused = false;
  #inView = false;
  #asleep = false;
  #economy = false;
  #markerId = '';
  #refusal = '';
  /** @type {?{code: string, level: string, message: string}} */
  #status = null;
  #waiting = null;
  #decoding = false;
  #decoded = null;
  /** @type {{seq: number, ack: () => void}[]} messages whose picture a newer one replaced */
  #unacked = [];
  /** @type {?object} header of the picture on the canvas */
  #shown = null;
  #openedAt = 0;
  #shownAt = 0;
  /** @type {{at: number, bytes: number}[]} */
  #received = [];
  /** @type {{at: number, age: ?number}[]} */
  #drawn = [];
  /** @type {?[number, number]} */
  #range = null;
  #lingerTimer = 0;

  /**
   * @param {object} entry of the catalogue
   * @param {{server: URL, token: ?string, clock: import('./camws.js').ServerClock,
   *   link: (path: string) => string, onChange: () => void}} bridge
   */
  constructor(entry, bridge) {
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById('tile'));
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.element = /** @type {HTMLElement} */ (copy.firstElementChild);
    this.#entry = entry;
    this.#onChange = bridge.onChange;
    this.#canvas = this.element.querySelector('canvas');
    this.#context = this.#canvas.getContext('2d', { alpha: false });
    this.#stream = new CamwsStream(entry.id, {
      server: bridge.server,
      token: bridge.token,
      clock: bridge.clock,
      query: this.#query(),
    });
    this.#label(bridge);
    this.#listen();
  }

  /** @returns {CamwsStream} */
  get stream() {
    return this.#stream;
  }

  /** @returns {?{code: string, level: string, message: string}} what the server said last */
  get status() {
    return this.#stream.state === 'open' ? this.#status : null;
  }

  /** @returns {number} received bytes per second */
  get bitrate() {
    return this.#received.reduce((sum, { bytes }) => sum + bytes, 0) / SPAN;
  }

  /** @returns {number} pictures shown per second */
  get fps() {
    return this.#drawn.length / SPAN;
  }

  /** @param {object} entry the catalogue's newest word on this stream */
  update(entry) {
    this.#entry = entry;
    if (entry.available && this.#stream.lastCode !== WRONG_OPTION) {
      this.#refusal = '';
    }
    setText(this.element.querySelector('.about span'), entry.description ?? '');
    this.#sync();
  }

  /** @param {boolean} visible whether the tile is on the screen, or nearly */
  setInView(visible) {
    clearTimeout(this.#lingerTimer);
    this.#lingerTimer = setTimeout(() => {
      this.#inView = visible;
      this.#sync();
    }, visible ? 0 : LINGER * 1000);
  }

  /** @param {boolean} asleep whether the whole page is out of sight for long */
  setAsleep(asleep) {
    this.#asleep = asleep;
    this.#sync();
  }

  /** @param {boolean} economy whether to save bandwidth */
  setEconomy(economy) {
    if (economy !== this.#economy) {
      this.#economy = economy;
      this.#stream.setQuery(this.#query());
    }
  }

  /** @param {boolean} paused */
  setPaused(paused) {
    this.#paused = paused;
    const button = this.#button('pause');
    button.setAttribute('aria-pressed', String(paused));
    setText(button, paused ? 'Resume' : 'Pause');
    this.#sync();
  }

  /** Ends the stream and takes the tile off the page. */
  remove() {
    clearTimeout(this.#lingerTimer);
    this.#stream.close();
    this.element.remove();
  }

  /** Goes on where a hidden page stopped. */
  wake() {
    this.#decode();
  }

  /** Draws the decoded picture; called within requestAnimationFrame. */
  draw() {
    const picture = this.#decoded;
    this.#decoded = null;
    if (!picture) {
      return;
    }
    const { header, width, height } = picture;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
      if (describe(this.#entry.id).product === 'color') {
        document.documentElement.style.setProperty('--aspect', `${width} / ${height}`);
      }
    }
    picture.paint(this.#context);
    const at = performance.now() / 1000;
    this.#shown = header;
    this.#shownAt = at;
    this.#drawn.push({ at, age: this.#stream.age(header.stamp) });
    this.element.dataset.seq = String(header.seq);
    if (this.element.dataset.view !== 'live') {
      this.#render();
    }
    const older = this.#unacked.filter(({ seq }) => seq < header.seq);
    this.#unacked = this.#unacked.filter(({ seq }) => seq > header.seq);
    older.forEach(({ ack }) => ack());
    picture.ack();
  }

  /** Writes the line of figures; called about twice a second. */
  refresh() {
    const at = performance.now() / 1000;
    this.#received = this.#received.filter((each) => at - each.at < SPAN);
    this.#drawn = this.#drawn.filter((each) => at - each.at < SPAN);
    const header = this.#shown;
    this.#field('fps', this.#drawn.length ? `${fixed(this.fps, 1)} fps` : '–');
    this.#field('bitrate', this.#received.length ? formatBitrate(this.bitrate) : '–');
    this.#field('size', header ? `${this.#canvas.width}×${this.#canvas.height}` : '–');
    this.#field('age', header ? formatAge(this.#age(at)) : '–');
    this.#field('range', this.#range
      ? `${this.#range.map((millimetres) => fixed(millimetres / 1000, 2)).join('–')} m`
      : '');
    this.#render();
  }

  /**
   * @param {number} at local seconds
   * @returns {?number} seconds from capture to display, of a still picture: until now
   */
  #age(at) {
    if (at - this.#shownAt > STALL) {
      return this.#stream.age(this.#shown.stamp);
    }
    const ages = this.#drawn.flatMap(({ age }) => (age === null ? [] : [age]));
    ages.sort((a, b) => a - b);
    return ages.length ? ages[ages.length >> 1] : null;
  }

  #query() {
    const { product } = describe(this.#entry.id);
    const png = this.#entry.content_type === 'image/png';
    const query = { adaptive: 1, ...(this.#economy ? ECONOMY : {}) };
    if (png) {
      delete query.quality;
    }
    if (product === 'depth_raw') {
      // Every pixel counts there: it is read under the pointer.
      delete query.width;
      delete query.adaptive;
      query.fps ??= DEPTH_RAW_FPS;
    }
    return { ...query, id: this.#markerId };
  }

  #label({ link }) {
    const { id } = this.#entry;
    const { camera, product, title } = describe(id);
    const name = camera ? `${camera}: ${title}` : title;
    this.element.dataset.stream = id;
    this.element.setAttribute('aria-label', name);
    this.#canvas.setAttribute('aria-label', name);
    setText(this.element.querySelector('h3'), name);
    setText(this.element.querySelector('code'), id);
    const suffix = this.#entry.content_type === 'image/png' ? 'png' : 'jpg';
    const still = this.element.querySelector('[data-action=still]');
    still.setAttribute('href', link(`api/v1/images/${id}.${suffix}`));
    for (const action of ['still', 'pause', 'enlarge']) {
      const control = this.element.querySelector(`[data-action=${action}]`);
      control.setAttribute('aria-label', `${control.textContent} ${name}`);
    }
    this.element.querySelector('.marker').hidden = product !== 'marker_mask';
  }

  #listen() {
    const stream = this.#stream;
    stream.addEventListener('image', ({ detail }) => this.#take(detail));
    stream.addEventListener('status', ({ detail }) => {
      if (detail.code === 'adapted') {
        return; // A smaller picture speaks for itself, and no problem has gone.
      }
      this.#status = this.#concerns(detail.code) ? detail : null;
      this.#render();
    });
    stream.addEventListener('close', ({ detail }) => {
      this.#refusal = detail.retryIn === null ? detail.reason || `Refused (${detail.code})` : '';
    });
    stream.addEventListener('statechange', () => this.#connectionChanged());
    stream.addEventListener('error', ({ detail }) => console.warn(stream.id, detail));
    this.#button('pause').addEventListener('click', () => this.setPaused(!this.#paused));
    this.#button('enlarge').addEventListener('click', () => this.#enlarge());
    const marker = this.element.querySelector('.marker input');
    marker.addEventListener('change', () => {
      this.#markerId = marker.checkValidity() ? marker.value : '';
      this.#refusal = '';
      this.#stream.setQuery(this.#query());
      this.#sync();
    });
  }

  #connectionChanged() {
    this.#waiting = null;
    this.#unacked = [];
    this.#status = null;
    this.#openedAt = performance.now() / 1000;
    this.#render();
    this.#onChange();
  }

  #enlarge() {
    const large = this.element.classList.toggle('large');
    const button = this.#button('enlarge');
    button.setAttribute('aria-pressed', String(large));
    setText(button, large ? 'Shrink' : 'Enlarge');
    if (large) {
      this.element.scrollIntoView({ block: 'nearest' });
    }
  }

  /** Opens or closes the socket, as is now wanted. */
  #sync() {
    // Also what is not available now: it comes when it can, and some only when it is wanted.
    if (!this.#paused && this.#inView && !this.#asleep && !this.#refusal) {
      this.#stream.open();
    } else {
      this.#stream.close();
    }
    this.#render();
  }

  #take(message) {
    this.#received.push({ at: performance.now() / 1000, bytes: message.bytes });
    this.#clearStatus();
    if (this.#waiting) {
      this.#unacked.push({ seq: this.#waiting.header.seq, ack: this.#waiting.ack });
    }
    this.#waiting = message;
    this.#decode();
  }

  /** Decodes the newest picture, unless the page is hidden: it would not be shown. */
  async #decode() {
    if (this.#decoding || !this.#waiting || document.hidden) {
      return;
    }
    const message = this.#waiting;
    this.#waiting = null;
    this.#decoding = true;
    try {
      const picture = await this.#prepare(message);
      if (this.#decoded) {
        this.#unacked.push({ seq: this.#decoded.header.seq, ack: this.#decoded.ack });
        this.#decoded.close();
      }
      this.#decoded = picture;
      drawSoon(this);
    } catch (error) {
      console.warn(`${this.#stream.id}: picture ${message.header.seq} is not readable`, error);
      message.ack();
    } finally {
      this.#decoding = false;
    }
    this.#decode();
  }

  /** Makes of a message something that can be painted at once. */
  async #prepare(message) {
    const { header, ack } = message;
    if (describe(this.#entry.id).product === 'depth_raw') {
      const depth = await decodeGrey16(message.data);
      if (depth) {
        const image = shade(depth, this.#follow(depthRange(depth.values)));
        const { width, height } = depth;
        const paint = (context) => context.putImageData(image, 0, 0);
        return { header, ack, width, height, paint, close: () => {} };
      }
    }
    const bitmap = await createImageBitmap(message.toBlob());
    const { width, height } = bitmap;
    const close = () => bitmap.close();
    const paint = (context) => {
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
    };
    return { header, ack, width, height, paint, close };
  }

  /** Lets the shown range of depths glide, so that brightness does not flicker. */
  #follow(range) {
    if (range && this.#range) {
      this.#range = [0, 1].map((i) => this.#range[i] + 0.2 * (range[i] - this.#range[i]));
    } else if (range) {
      this.#range = range;
    }
    return this.#range ?? [0, 1];
  }

  /** Whether a status says something of this picture: most go on without a board. */
  #concerns(code) {
    const { product } = describe(this.#entry.id);
    return code !== 'ok' && (code !== 'board_lost' || product.startsWith('board_'));
  }

  /** A new picture disproves what was said of missing ones. */
  #clearStatus() {
    if (['no_images', 'stale', 'board_lost'].includes(this.#status?.code)) {
      this.#status = null;
    }
  }

  #render() {
    const [view, note] = this.#view();
    if (this.element.dataset.view !== view) {
      this.element.dataset.view = view;
    }
    this.element.dataset.available = String(Boolean(this.#entry.available));
    setText(this.element.querySelector('.note'), note);
  }

  /** @returns {[string, string]} what the tile is doing, in one word and in a sentence */
  #view() {
    const at = performance.now() / 1000;
    const said = this.#status ? words(this.#status.code, this.#status.message) : '';
    if (this.#paused) {
      return ['paused', 'Paused. Nothing is sent for this picture.'];
    }
    switch (this.#stream.state) {
      case 'closed':
        return this.#refusal ? ['unavailable', this.#refusal] : ['asleep', ''];
      case 'connecting':
        return ['connecting', 'Connecting.'];
      case 'reconnecting':
        return ['reconnecting', this.#stream.lastCode === 1013
          ? 'The bridge has too many clients. Trying again.'
          : 'The connection is lost. Trying again.'];
      default:
    }
    if (this.#shownAt > this.#openedAt && at - this.#shownAt < STALL) {
      return ['live', said];
    }
    const { available, reason } = this.#entry;
    const missing = said || (available ? '' : reason || 'Not available.');
    if (this.#shownAt > this.#openedAt) {
      return ['still', missing || `No new picture for ${formatAge(at - this.#shownAt)}.`];
    }
    return [available ? 'waiting' : 'unavailable', missing || 'Waiting for the first picture.'];
  }

  /** @param {string} action */
  #button(action) {
    return this.element.querySelector(`button[data-action=${action}]`);
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #field(name, text) {
    setText(this.element.querySelector(`[data-field=${name}]`), text);
  }
}
