/** The table of poses, fed by one `transforms_*` stream at a time. */

import { CamwsStream } from './camws.js';
import { describe, fixed, formatAge, rollPitchYaw, setText, words } from './format.js';

/** Numbers that change faster are not readable, in 1/s. */
const FPS = 10;

/** Rows that nothing has confirmed for this long are taken away, in seconds. */
const STALE = 1.5;

const ORDER = ['board', 'robot', 'camera', 'marker'];
const FIELDS = ['x', 'y', 'z', 'roll', 'pitch', 'yaw', 'error'];

/** Shows the poses of one frame, chosen by the user among those the bridge has. */
export class PoseTable {
  #bridge;
  /** @type {?CamwsStream} */
  #stream = null;
  /** @type {Map<string, object>} */
  #entries = new Map();
  /** @type {Map<string, string>} */
  #refusals = new Map();
  /** @type {Map<string, HTMLTableRowElement>} */
  #rows = new Map();
  /** @type {?object} the message to be drawn at the next refresh */
  #newest = null;
  /** @type {(() => void)[]} */
  #unacked = [];
  #drawnAt = 0;
  #asleep = false;
  /** @type {?{code: string, level: string, message: string}} */
  #status = null;
  #choice;
  #unit;

  /**
   * @param {{server: URL, token: ?string, clock: import('./camws.js').ServerClock,
   *   onChange: () => void, remember: (name: string, value?: string) => string}} bridge
   */
  constructor(bridge) {
    this.#bridge = bridge;
    this.select = /** @type {HTMLSelectElement} */ (document.getElementById('frame-select'));
    this.units = /** @type {HTMLSelectElement} */ (document.getElementById('unit-select'));
    this.body = document.querySelector('#poses tbody');
    this.#choice = bridge.remember('frame');
    this.#unit = bridge.remember('unit') === 'mm' ? 'mm' : 'm';
    this.units.value = this.#unit;
    this.#showUnit();
    this.select.addEventListener('change', () => {
      this.#choice = bridge.remember('frame', this.select.value);
      this.#follow();
    });
    this.units.addEventListener('change', () => {
      this.#unit = bridge.remember('unit', this.units.value);
      this.#showUnit();
    });
  }

  /** @returns {?CamwsStream} the stream in use */
  get stream() {
    return this.#stream;
  }

  /** @returns {?{code: string, level: string, message: string}} what the server said last */
  get status() {
    return this.#stream?.state === 'open' ? this.#status : null;
  }

  /** @param {object[]} entries of the catalogue: those of the `transforms_*` streams */
  update(entries) {
    this.#entries = new Map(entries.map((entry) => [entry.id, entry]));
    for (const [id] of this.#refusals) {
      if (this.#entries.get(id)?.available) {
        this.#refusals.delete(id);
      }
    }
    this.#options();
    this.#follow();
  }

  /** @param {boolean} asleep whether the page is out of sight for long */
  setAsleep(asleep) {
    this.#asleep = asleep;
    this.#follow();
  }

  /** Takes stale rows away and says why; called about twice a second. */
  refresh() {
    const at = performance.now() / 1000;
    if (at - this.#drawnAt > STALE) {
      this.#clear();
      this.#note(this.#why());
    }
  }

  #why() {
    if (!this.#stream) {
      const reasons = [...this.#entries.values()].map(({ reason }) => reason).filter(Boolean);
      return reasons[0] ?? '';
    }
    if (this.#status) {
      return words(this.#status.code, this.#status.message);
    }
    return this.#stream.state === 'open' ? 'No poses are arriving.' : 'Not connected.';
  }

  #usable(id) {
    return Boolean(this.#entries.get(id)?.available) && !this.#refusals.has(id);
  }

  /** Writes the frames to choose from; what the bridge does not have cannot be chosen. */
  #options() {
    const known = [...this.select.options].map(({ value }) => value).join(' ');
    if (known !== [...this.#entries.keys()].join(' ')) {
      this.select.replaceChildren(...[...this.#entries.keys()].map((id) => {
        const { camera, title } = describe(id);
        return new Option(camera ? `${camera}: ${title}` : title, id);
      }));
    }
    for (const option of this.select.options) {
      const entry = this.#entries.get(option.value);
      option.disabled = !this.#usable(option.value);
      option.title = option.disabled
        ? this.#refusals.get(option.value) ?? entry?.reason ?? '' : '';
    }
  }

  /** Connects to the chosen frame, or to the first there is. */
  #follow() {
    const current = this.#stream?.id;
    const keeps = (id) => this.#usable(id)
      || (id === current && this.#entries.has(id) && !this.#refusals.has(id));
    const wanted = [this.#choice, current, ...this.#entries.keys()].find((id) => id && keeps(id));
    if (wanted && this.select.value !== wanted) {
      this.select.value = wanted;
    }
    if (wanted !== current) {
      this.#open(wanted);
    }
    if (this.#asleep) {
      this.#stream?.close();
    } else {
      this.#stream?.open();
    }
  }

  /** @param {string|undefined} id */
  #open(id) {
    this.#stream?.close();
    this.#stream = null;
    this.#status = null;
    this.#clear();
    if (id) {
      const { server, token, clock } = this.#bridge;
      const stream = new CamwsStream(id, { server, token, clock, query: { fps: FPS } });
      stream.addEventListener('json', ({ detail }) => this.#take(stream, detail));
      stream.addEventListener('status', ({ detail }) => {
        this.#status = detail.code === 'ok' ? null : detail;
      });
      stream.addEventListener('close', ({ detail }) => {
        if (detail.retryIn === null) {
          this.#refusals.set(id, detail.reason || `Refused (${detail.code})`);
        }
      });
      stream.addEventListener('statechange', () => this.#stateChanged(stream));
      this.#stream = stream;
    }
    this.#bridge.onChange();
  }

  /** @param {CamwsStream} stream */
  #stateChanged(stream) {
    if (stream === this.#stream) {
      this.#status = null;
      this.#unacked = [];
      if (this.#refusals.has(stream.id)) {
        this.#options();
        this.#follow();
      }
      this.#bridge.onChange();
    }
  }

  #take(stream, detail) {
    if (stream !== this.#stream) {
      return;
    }
    const first = this.#newest === null;
    this.#newest = detail.message;
    this.#unacked.push(detail.ack);
    if (first) {
      requestAnimationFrame(() => this.#draw());
    }
  }

  #draw() {
    const message = this.#newest;
    this.#newest = null;
    if (!message) {
      return;
    }
    this.#drawnAt = performance.now() / 1000;
    this.#drawRows(message);
    this.#drawBoard(message.board);
    const age = this.#stream?.age(message.header.stamp) ?? null;
    setText(document.getElementById('poses-line'),
      `${message.header.frame_id} · image ${message.seq} · ${formatAge(age)}`);
    if (this.#rows.size === 0) {
      this.#note(this.#status ? this.#why() : 'Nothing with a known pose is in view.');
    } else {
      this.#note('');
    }
    this.#unacked.splice(0).forEach((ack) => ack());
  }

  /** @param {object} message a `transforms_*` message */
  #drawRows({ transforms }) {
    const sorted = [...transforms].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind)
      || (a.id ?? -1) - (b.id ?? -1));
    const rows = new Map();
    for (const transform of sorted) {
      let key = `${transform.kind} ${transform.id ?? ''}`;
      while (rows.has(key)) { // The same id may stand in the image several times.
        key += '+';
      }
      const row = this.#rows.get(key) ?? makeRow(transform);
      this.#fillRow(row, transform);
      rows.set(key, row);
    }
    const inPlace = [...rows.values()].every((row, index) => this.body.children[index] === row);
    if (!inPlace || this.body.children.length !== rows.size) {
      this.body.replaceChildren(...rows.values());
    }
    this.#rows = rows;
  }

  #fillRow(row, { child_frame_id: frame, transform, reprojection_error_px: error, ambiguous }) {
    const { translation, rotation } = transform;
    const [scale, digits] = this.#unit === 'mm' ? [1000, 1] : [1, 4];
    const angles = rollPitchYaw(rotation);
    const texts = [
      ...[translation.x, translation.y, translation.z].map((v) => fixed(v * scale, digits)),
      ...angles.map((angle) => fixed(angle, 2)),
      fixed(error, 2),
    ];
    setText(row.querySelector('[data-field=frame]'), frame);
    FIELDS.forEach((name, i) => setText(row.querySelector(`[data-field=${name}]`), texts[i]));
    setText(row.querySelector('[data-field=ambiguous]'), ambiguous ? 'ambiguous' : '');
  }

  /** @param {object|undefined} board the board's state */
  #drawBoard(board) {
    const line = document.getElementById('board-state');
    line.dataset.visible = board ? String(Boolean(board.visible)) : 'unknown';
    let text = '';
    if (board?.visible) {
      text = `Board in view, ${board.markers_used} markers, `
        + `error ${fixed(board.reprojection_error_px, 2)} px`;
    } else if (board) {
      text = 'Board not in view';
    }
    setText(line, text);
  }

  #clear() {
    this.#rows.clear();
    this.#drawBoard(undefined);
    setText(document.getElementById('poses-line'), '');
    if (this.body.children.length) {
      this.body.replaceChildren();
    }
  }

  /** @param {string} text */
  #note(text) {
    const note = document.getElementById('poses-note');
    setText(note, text);
    note.hidden = text === '';
  }

  #showUnit() {
    document.querySelectorAll('#poses [data-unit]').forEach((each) => setText(each, this.#unit));
  }
}

/** @returns {HTMLTableRowElement} an empty row for one pose */
function makeRow({ kind, id }) {
  const row = document.createElement('tr');
  row.dataset.kind = kind;
  row.dataset.id = id === null || id === undefined ? '' : String(id);
  const head = document.createElement('th');
  head.scope = 'row';
  head.textContent = kind;
  row.append(head);
  for (const name of ['id', 'frame', ...FIELDS, 'ambiguous']) {
    const cell = document.createElement('td');
    cell.dataset.field = name;
    cell.className = ['frame', 'ambiguous'].includes(name) ? '' : 'n';
    row.append(cell);
  }
  row.querySelector('[data-field=id]').textContent = row.dataset.id;
  return row;
}
