/** The dashboard: asks the bridge what there is, and keeps the page to it. */

import { fitsHeader, ServerClock } from './camws.js';
import { describe, fixed, formatBitrate, setText, words } from './format.js';
import { PoseTable } from './poses.js';
import { Tile } from './tile.js';

/** How often the bridge is asked, and the figures are written, in seconds. */
const CATALOGUE_INTERVAL = 2.5;
const HEALTH_INTERVAL = 5.0;
const REFRESH_INTERVAL = 0.5;

/** An answer that takes longer has failed, in seconds. */
const HTTP_TIMEOUT = 5.0;

/** A page hidden for longer lets its sockets go, in seconds. */
const HIDDEN_TIMEOUT = 10.0;

const server = new URL('.', document.baseURI);
let token = takeToken();
const clock = new ServerClock();

/** @type {Map<string, Tile>} */
const tiles = new Map();
const problems = { http: null, health: null };
let sessionId = null;
let pauseAll = false;
let everAnswered = false;
let everConnected = false;
let sleepTimer = 0;

const byId = (id) => document.getElementById(id);
const economy = /** @type {HTMLInputElement} */ (byId('economy'));

/**
 * Finds the token: in the address, from which it is taken away (it must not get into bookmarks
 * and pictures of the screen), or where an earlier page has put it.
 *
 * @returns {?string}
 */
function takeToken() {
  const address = new URL(window.location.href);
  const given = address.searchParams.get('token');
  if (given) {
    address.searchParams.delete('token');
    window.history.replaceState(null, '', address);
    keepToken(given, false);
  }
  try {
    return given || sessionStorage.getItem('camws.token') || localStorage.getItem('camws.token');
  } catch {
    return given;
  }
}

/**
 * Keeps a token for this tab, or on this device; null forgets it.
 *
 * @param {?string} value
 * @param {boolean} onDevice
 */
function keepToken(value, onDevice) {
  try {
    sessionStorage.removeItem('camws.token');
    localStorage.removeItem('camws.token');
    if (value) {
      (onDevice ? localStorage : sessionStorage).setItem('camws.token', value);
    }
  } catch {
    // The browser keeps nothing: the token is asked for again.
  }
}

/**
 * @param {string} path relative to the bridge's root
 * @returns {string} its address; with the token, where that cannot stand in a header
 */
function link(path) {
  const url = new URL(path, server);
  if (token && !fitsHeader(token)) {
    url.searchParams.set('token', token);
  }
  return url.href;
}

/**
 * Reads or keeps a choice of the user's, where the browser allows it.
 *
 * @param {string} name
 * @param {string} [value] to be kept
 * @returns {string} the kept value, '' if there is none
 */
function remember(name, value) {
  try {
    if (value !== undefined) {
      localStorage.setItem(`camws.${name}`, value);
    }
    return localStorage.getItem(`camws.${name}`) ?? '';
  } catch {
    return value ?? '';
  }
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
function ask(path, signal) {
  const headers = fitsHeader(token) ? { Authorization: `Bearer ${token}` } : {};
  return fetch(link(path), { cache: 'no-store', headers, signal });
}

/**
 * Opens a picture in a tab of its own; a link alone cannot show the token.
 *
 * @param {string} path
 */
async function openPicture(path) {
  const answer = await ask(path);
  const anchor = document.createElement('a');
  const address = answer.ok ? URL.createObjectURL(await answer.blob()) : link(path);
  anchor.href = address;
  anchor.target = '_blank';
  anchor.rel = 'noopener';
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/**
 * @param {string} path
 * @returns {Promise<{code: number, body: any}>} whatever the code: errors are JSON as well
 */
async function getJson(path) {
  const signal = AbortSignal.timeout(HTTP_TIMEOUT * 1000);
  const answer = await ask(path, signal);
  return { code: answer.status, body: await answer.json().catch(() => null) };
}

const bridge = {
  server,
  get token() {
    return token;
  },
  clock,
  link,
  openPicture,
  remember,
  onChange: connectionChanged,
};
const poses = new PoseTable(bridge);

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    tiles.get(/** @type {HTMLElement} */ (target).dataset.stream)?.setInView(isIntersecting);
  }
}, { rootMargin: '100px' });

/** @param {object[]} streams the catalogue */
function applyCatalogue(streams) {
  const own = streams.filter((entry) => entry.allowed !== false);
  const pictures = own.filter((entry) => entry.content_type.startsWith('image/'));
  for (const entry of pictures) {
    if (!tiles.has(entry.id)) {
      const tile = new Tile(entry, bridge);
      tiles.set(entry.id, tile);
      tile.setEconomy(economy.checked);
      tile.setPaused(pauseAll);
      byId('tiles').append(tile.element);
      observer.observe(tile.element);
    }
    tiles.get(entry.id).update(entry);
  }
  for (const [id, tile] of tiles) {
    if (!pictures.some((entry) => entry.id === id)) {
      observer.unobserve(tile.element);
      tile.remove();
      tiles.delete(id);
    }
  }
  byId('no-streams').hidden = tiles.size > 0;
  poses.update(own.filter(({ id }) => describe(id).product.startsWith('transforms_')));
  showCatalogue(streams);
}

/** @param {object[]} streams */
function showCatalogue(streams) {
  const body = document.querySelector('#catalogue tbody');
  while (body.children.length > streams.length) {
    body.lastElementChild.remove();
  }
  streams.forEach((entry, index) => {
    let row = body.children[index];
    if (!row) {
      row = document.createElement('tr');
      for (let i = 0; i < 6; i += 1) {
        const cell = document.createElement(i === 0 ? 'th' : 'td');
        cell.className = i === 3 || i === 4 ? 'n' : '';
        row.append(cell);
      }
      row.firstElementChild.setAttribute('scope', 'row');
      body.append(row);
    }
    [
      entry.id,
      entry.content_type,
      entry.available ? 'yes' : entry.reason || 'no',
      String(entry.subscribers ?? '–'),
      fixed(entry.rate_hz, 1),
      entry.description ?? '',
    ].forEach((text, i) => setText(row.children[i], text));
  });
}

/** @returns {import('./camws.js').CamwsStream[]} all streams that are wanted now */
function activeStreams() {
  return [...[...tiles.values()].map(({ stream }) => stream), poses.stream]
    .filter((stream) => stream && stream.state !== 'closed');
}

/** Sums all sockets up into one state; a new session of the server is noticed here. */
function connectionChanged() {
  const streams = activeStreams();
  const info = streams.find((stream) => stream.info)?.info;
  const trying = streams.filter((stream) => stream.state === 'reconnecting');
  const lost = trying.filter((stream) => stream.lastCode !== 1013);
  everConnected ||= Boolean(info) || (everAnswered && streams.length === 0);
  let state = 'connected';
  let text = 'Connected';
  if (!everConnected) {
    [state, text] = ['connecting', 'Connecting'];
  } else if (lost.length || (problems.http && !info)) {
    [state, text] = ['reconnecting', 'Reconnecting'];
  }
  if (byId('connection').dataset.state !== state) {
    byId('connection').dataset.state = state;
    setText(byId('connection'), text);
  }
  if (info && info.session_id !== sessionId) {
    newSession(info);
  }
}

/** @param {{name: string, version: string, session_id: string}} info */
function newSession(info) {
  if (sessionId !== null) {
    clock.reset();
    readCatalogue();
    readHealth();
  }
  sessionId = info.session_id;
  setText(byId('version'), info.version ?? '');
  setText(byId('session'), `${info.name} ${info.version}, session ${sessionId}`);
}

async function readCatalogue() {
  try {
    const { code, body } = await getJson('api/v1/streams');
    if (code === 200) {
      problems.http = null;
      byId('token-form').hidden = true;
      applyCatalogue(body.streams);
      everAnswered = true;
    } else if (code === 401) {
      problems.http = null;
      askForToken();
    } else {
      problems.http = { level: 'error', text: body?.error?.message ?? `The bridge answers ${code}.` };
    }
  } catch {
    problems.http = { level: 'error', text: 'The bridge does not answer.' };
  }
  connectionChanged();
  showBanner();
}

/** Asks for a token, and stops showing one that is wrong: the bridge counts those. */
function askForToken() {
  const form = byId('token-form');
  if (form.hidden) {
    setText(byId('token-note'), token
      ? 'The token is wrong, or no longer valid.' : 'This bridge wants a token.');
    form.hidden = false;
    byId('token').focus();
  }
  if (token) {
    keepToken(null, false);
    token = null;
  }
  applyCatalogue([]);
}

async function readHealth() {
  const pill = byId('health');
  try {
    const { code: answer, body } = await getJson('healthz');
    const well = body?.status === 'ok';
    const code = body?.code ?? body?.error?.code ?? 'unknown';
    const message = body?.message ?? body?.error?.message;
    // Without a token there are no details, and of that the catalogue's answer tells.
    const said = well || answer === 401 || !(body?.code ?? body?.error?.code);
    const level = code === 'starting' ? 'info' : 'error';
    problems.health = said ? null : { level, text: words(code, message) };
    pill.dataset.state = well ? 'ok' : level === 'info' ? 'unknown' : 'bad';
    pill.title = message ?? '';
    setText(pill, well ? 'Healthy' : code.replaceAll('_', ' '));
  } catch {
    problems.health = null;
    pill.dataset.state = 'unknown';
    setText(pill, 'Health unknown');
  }
  showBanner();
}

/** Writes what concerns the whole page; what concerns one picture stands on its tile. */
function showBanner() {
  const found = new Map();
  for (const problem of [problems.http, problems.health]) {
    if (problem) {
      found.set(problem.text, problem.level);
    }
  }
  for (const status of [...[...tiles.values()].map((tile) => tile.status), poses.status]) {
    if (status && status.code !== 'board_lost' && status.level !== 'info') {
      const text = words(status.code, status.message);
      found.set(text, found.get(text) ?? status.level);
    }
  }
  const banner = byId('banner');
  const shown = [...found].map(([text, level]) => `${level} ${text}`).join('\n');
  if (banner.dataset.shown !== shown) {
    banner.dataset.shown = shown;
    banner.replaceChildren(...[...found].map(([text, level]) => {
      const item = document.createElement('li');
      item.dataset.level = level;
      item.textContent = text;
      return item;
    }));
    banner.hidden = found.size === 0;
  }
}

function refresh() {
  let fps = 0;
  let bitrate = 0;
  let live = 0;
  for (const tile of tiles.values()) {
    tile.refresh();
    fps += tile.fps;
    bitrate += tile.bitrate;
    live += tile.element.dataset.view === 'live' ? 1 : 0;
  }
  poses.refresh();
  setText(byId('totals'), tiles.size
    ? `${live} of ${tiles.size} live · ${fixed(fps, 0)} pictures/s · ${formatBitrate(bitrate)}`
    : '');
  showBanner();
}

/** @param {boolean} asleep */
function setAsleep(asleep) {
  tiles.forEach((tile) => tile.setAsleep(asleep));
  poses.setAsleep(asleep);
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(sleepTimer);
  if (document.hidden) {
    sleepTimer = setTimeout(() => setAsleep(true), HIDDEN_TIMEOUT * 1000);
  } else {
    setAsleep(false);
    tiles.forEach((tile) => tile.wake());
    activeStreams().forEach((stream) => stream.retry());
  }
});

window.addEventListener('online', () => activeStreams().forEach((stream) => stream.retry()));

economy.checked = remember('economy') === 'yes';
economy.addEventListener('change', () => {
  remember('economy', economy.checked ? 'yes' : 'no');
  tiles.forEach((tile) => tile.setEconomy(economy.checked));
});

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId('token'));
  keepToken(field.value.trim(), /** @type {HTMLInputElement} */ (byId('token-keep')).checked);
  window.location.reload();
});

byId('pause-all').addEventListener('click', ({ currentTarget }) => {
  pauseAll = !pauseAll;
  currentTarget.setAttribute('aria-pressed', String(pauseAll));
  setText(currentTarget, pauseAll ? 'Resume all' : 'Pause all');
  tiles.forEach((tile) => tile.setPaused(pauseAll));
});

/**
 * Does a thing now and then for ever, while the page is in sight.
 *
 * @param {() => any} task
 * @param {number} interval seconds between its end and its next start
 */
async function repeat(task, interval) {
  if (!document.hidden) {
    await task();
  }
  setTimeout(() => repeat(task, interval), interval * 1000);
}

repeat(readCatalogue, CATALOGUE_INTERVAL);
repeat(readHealth, HEALTH_INTERVAL);
repeat(refresh, REFRESH_INTERVAL);
