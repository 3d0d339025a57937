"""The dashboard in a real browser, against the bridge and the demo camera."""
from collections.abc import Callable, Iterator
import json
import math
import os
from pathlib import Path
import re
import shutil
import signal
import tempfile
import threading
from typing import Any, Protocol
from urllib.request import build_opener, ProxyHandler

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait
except ImportError:
    webdriver = None  # type: ignore[assignment]

# The demo has a board, markers, registered depth and a robot: every stream is live in it.
IMAGE_STREAMS = {
    'color', 'rectified', 'aruco_debug', 'board_perspective', 'board_mask', 'marker_mask',
    'depth', 'depth_raw',
}
FRAMES = {'transforms_camera', 'transforms_board', 'transforms_robot'}

# Limits, in seconds, of waits that normally end much sooner.
LIMIT = 30.0
RESTART_LIMIT = 60.0

# The window shows all tiles of the demo at once: only tiles in view are live.
WINDOW = (1600, 1400)

# What a browser reports of a server that is being restarted, whatever the page does.
RESTART_NOISE = re.compile(r'net::ERR_|WebSocket connection to .* failed')
# An answer, not an error: the bridge has just started, and says so.
NOT_YET_HEALTHY = re.compile(r'/healthz\b.* status of 503 ')

# A small copy of each canvas as a number, beside the seq of the picture on it.
SNAPSHOT = '''
const small = document.createElement('canvas');
[small.width, small.height] = [96, 72];
const context = small.getContext('2d', { willReadFrequently: true });
return [...document.querySelectorAll('article[data-stream]')].map((tile) => {
  context.drawImage(tile.querySelector('canvas'), 0, 0, 96, 72);
  let hash = 0;
  for (const value of context.getImageData(0, 0, 96, 72).data) {
    hash = (Math.imul(hash, 31) + value) | 0;
  }
  const seq = tile.dataset.seq === undefined ? null : Number(tile.dataset.seq);
  return [tile.dataset.stream, { seq, hash, view: tile.dataset.view }];
});
'''

WATCH_STATES = '''
const element = document.getElementById('connection');
window.camwsStates = [];
new MutationObserver(() => window.camwsStates.push(element.dataset.state))
  .observe(element, { attributes: true, attributeFilter: ['data-state'] });
'''


class DemoBridge(Protocol):
    """The bridge with the demo camera, as conftest.py starts it."""

    url: str

    def restart(self) -> None:
        """End the bridge's process and start it again on the same port."""


def find_browser() -> 'tuple[str, str] | str':
    """Return the paths of Chromium and its driver, or what is missing."""
    if webdriver is None:
        return 'the Python package selenium is not installed'
    names = ('chromium', 'chromium-browser', 'google-chrome')
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        return 'Chromium is not installed'
    driver = shutil.which('chromedriver')
    if driver is None:
        return 'chromedriver is not installed (Debian: chromium-driver)'
    return chromium, driver


def end_leftovers(folder: str) -> None:
    """Kill what is left of the processes that were started with ``folder`` as their home."""
    marker = f'HOME={folder}'.encode()
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if marker in (process / 'environ').read_bytes().split(b'\0'):
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue  # It has ended meanwhile, or is not ours.


@pytest.fixture(scope='module')
def browser() -> 'Iterator[webdriver.Chrome]':
    """Start headless Chromium; skip where there is none, unless CI says there must be one."""
    found = find_browser()
    if isinstance(found, str):
        if os.environ.get('CAMWS_REQUIRE_BROWSER') == '1':
            pytest.fail(f'{found}, and CAMWS_REQUIRE_BROWSER=1 says that it must be')
        pytest.skip(found)
    chromium, driver = found
    folder = tempfile.mkdtemp(prefix='camws-browser-')
    try:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic',
            '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync', f'--user-data-dir={folder}/profile',
        ):
            options.add_argument(argument)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        # Both programs keep all their files in the folder, and are known by it.
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith('XDG_')},
            'HOME': folder, 'TMPDIR': folder,
        }
        service = webdriver.ChromeService(driver, env=environment)
        chrome = webdriver.Chrome(options=options, service=service)
        try:
            yield chrome
        finally:
            chrome.quit()
    finally:
        end_leftovers(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def page(browser: 'webdriver.Chrome', demo_bridge: DemoBridge) -> 'webdriver.Chrome':
    """Open the dashboard anew, with an empty console log."""
    resize(browser, *WINDOW)
    browser.get_log('browser')
    browser.get(demo_bridge.url)
    return browser


def resize(browser: 'webdriver.Chrome', width: int, height: int) -> None:
    """Give the page exactly this many pixels."""
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
        'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False,
    })


def wait(
    browser: 'webdriver.Chrome',
    condition: Callable[[], Any],
    what: 'str | Callable[[], str]',
    limit: float = LIMIT,
) -> Any:
    """Return the first true value of ``condition``, or fail saying what was waited for."""
    try:
        return WebDriverWait(browser, limit, poll_frequency=0.1).until(lambda _: condition())
    except Exception as error:
        if type(error).__name__ != 'TimeoutException':
            raise
    pytest.fail(f'within {limit} s: {what if isinstance(what, str) else what()}')


def catalogue(bridge: DemoBridge) -> dict[str, dict[str, Any]]:
    """Return the bridge's own catalogue, by stream id."""
    with build_opener(ProxyHandler({})).open(f'{bridge.url}/api/v1/streams', timeout=10) as answer:
        return {entry['id']: entry for entry in json.load(answer)['streams']}


def snapshot(browser: 'webdriver.Chrome') -> dict[str, dict[str, Any]]:
    """Return seq, hash of the pixels and view of every tile, by stream id."""
    return dict(browser.execute_script(SNAPSHOT))


def state(browser: 'webdriver.Chrome') -> str:
    """Return what the page says of its connection."""
    return browser.find_element(By.ID, 'connection').get_attribute('data-state') or ''


def wait_connected(browser: 'webdriver.Chrome', limit: float = LIMIT) -> None:
    """Wait until every socket that the page wants is open."""
    wait(browser, lambda: state(browser) == 'connected',
         lambda: f'the page is connected; it is {state(browser)}', limit)


def wait_pictures_change(
    browser: 'webdriver.Chrome', bridge: DemoBridge, limit: float = LIMIT,
) -> set[str]:
    """Wait until every available image stream has drawn, and drawn something else."""
    first: dict[str, dict[str, Any]] = {}
    changed: set[str] = set()

    def all_changed() -> bool:
        for stream, now in snapshot(browser).items():
            if now['seq'] is None or now['view'] != 'live':
                continue
            before = first.setdefault(stream, now)
            if now['seq'] > before['seq'] and now['hash'] != before['hash']:
                changed.add(stream)
        available = {
            stream for stream, entry in catalogue(bridge).items()
            if entry['available'] and entry['content_type'].startswith('image/')
        }
        return bool(available) and IMAGE_STREAMS | available <= changed

    wait(browser, all_changed,
         lambda: f'all pictures change; changed {sorted(changed)}, now {snapshot(browser)}, '
                 f'catalogue {catalogue(bridge)}', limit)
    return changed


def errors(browser: 'webdriver.Chrome') -> list[str]:
    """Return the errors in the console since the last call; violations of the CSP are some."""
    return [entry['message'] for entry in browser.get_log('browser')
            if entry['level'] == 'SEVERE' and not NOT_YET_HEALTHY.search(entry['message'])]


def poses(browser: 'webdriver.Chrome') -> list[dict[str, str]]:
    """Return the rows of the table of poses."""
    rows: list[dict[str, str]] = browser.execute_script('''
    return [...document.querySelectorAll('#poses tbody tr')].map((row) => ({
      ...row.dataset,
      ...Object.fromEntries([...row.querySelectorAll('td')]
        .map((cell) => [cell.dataset.field, cell.textContent])),
    }));
    ''')
    return rows


def test_every_picture_is_drawn_and_changes(
    page: 'webdriver.Chrome', demo_bridge: DemoBridge,
) -> None:
    """Every image stream of the catalogue is live, and its figures are shown."""
    wait_connected(page)
    changed = wait_pictures_change(page, demo_bridge)
    assert changed >= IMAGE_STREAMS

    def figures() -> list[str]:
        return [tile.text for tile in page.find_elements(By.CSS_SELECTOR, '.tile .line')]

    figure = re.compile(r'\d+(\.\d+)? m?s\s+\d+\.\d fps\s+[\d.]+ [KM]B/s\s+\d+×\d+')
    wait(page, lambda: all(figure.match(line) for line in figures()),
         lambda: f'age, rate, bitrate and size of every picture; they are {figures()}')
    assert errors(page) == []


def test_poses_are_finite_in_every_frame(page: 'webdriver.Chrome') -> None:
    """The table lists poses in each frame, without the frame itself."""
    wait(page, lambda: len(Select(page.find_element(By.ID, 'frame-select')).options) == 3,
         'three frames to choose from')
    wait(page, lambda: all(option.is_enabled() for option
                           in Select(page.find_element(By.ID, 'frame-select')).options),
         'all frames can be chosen')
    for frame in sorted(FRAMES):
        Select(page.find_element(By.ID, 'frame-select')).select_by_value(frame)
        itself = frame.removeprefix('transforms_')
        kinds = {'board', 'camera', 'robot', 'marker'} - {itself}
        rows = wait(
            page,
            lambda kinds=kinds: (found := poses(page)) and kinds == {r['kind'] for r in found}
            and found,
            lambda kinds=kinds: f'poses of {sorted(kinds)}; there are {poses(page)}')
        for row in rows:
            for field in ('x', 'y', 'z', 'roll', 'pitch', 'yaw'):
                assert math.isfinite(float(row[field])), row
            assert (row['kind'] == 'marker') == row['id'].isdigit(), row
    assert errors(page) == []


def test_nothing_inline_and_nothing_from_elsewhere_runs(page: 'webdriver.Chrome') -> None:
    """The policy is in force: what somebody might smuggle into the page does nothing."""
    wait_connected(page)
    page.execute_script('''
    window.violated = [];
    document.addEventListener('securitypolicyviolation',
      (event) => window.violated.push(event.effectiveDirective));
    const script = document.createElement('script');
    try { script.textContent = 'window.smuggled = true'; } catch {}
    document.body.append(script);
    const image = new Image();
    image.src = 'http://127.0.0.1:1/';
    fetch('http://127.0.0.1:1/').catch(() => {});
    document.body.setAttribute('style', 'color: red');
    ''')
    wait(page, lambda: len(set(page.execute_script('return window.violated'))) >= 4,
         lambda: f"violations; there are {page.execute_script('return window.violated')}")
    assert page.execute_script('return window.smuggled') is None
    assert {'img-src', 'connect-src', 'style-src-attr', 'require-trusted-types-for'} <= set(
        page.execute_script('return window.violated'))
    page.get_log('browser')


def test_paused_picture_costs_the_bridge_nothing(
    page: 'webdriver.Chrome', demo_bridge: DemoBridge,
) -> None:
    """A paused tile has no socket; resumed, it goes on."""
    wait_pictures_change(page, demo_bridge)
    watched = catalogue(demo_bridge)['rectified']['subscribers']
    assert watched >= 1
    button = page.find_element(By.CSS_SELECTOR, '[data-stream=rectified] [data-action=pause]')
    button.click()
    wait(page, lambda: catalogue(demo_bridge)['rectified']['subscribers'] == watched - 1,
         'the socket of the paused picture is closed')
    before = snapshot(page)['rectified']['seq']
    button.click()
    wait(page, lambda: snapshot(page)['rectified']['seq'] > before, 'the picture goes on')
    assert errors(page) == []


def test_pictures_out_of_view_let_their_sockets_go(
    page: 'webdriver.Chrome', demo_bridge: DemoBridge,
) -> None:
    """In a small window the last tiles are asleep, and wake when they are scrolled to."""
    wait_pictures_change(page, demo_bridge)
    resize(page, 400, 900)
    wait(page, lambda: snapshot(page)['depth_raw']['view'] == 'asleep', 'depth_raw is asleep')
    assert snapshot(page)['color']['view'] == 'live'
    before = snapshot(page)['depth_raw']['seq']
    page.execute_script(
        "document.querySelector('[data-stream=depth_raw]').scrollIntoView({block: 'center'})")
    wait(page, lambda: snapshot(page)['depth_raw']['seq'] > before, 'depth_raw goes on')
    wait(page, lambda: snapshot(page)['color']['view'] == 'asleep', 'color is asleep')
    assert errors(page) == []


def test_restart_of_the_bridge_is_survived(
    page: 'webdriver.Chrome', demo_bridge: DemoBridge,
) -> None:
    """The page says that it reconnects, and all pictures and poses come back by themselves."""
    wait_connected(page)
    wait_pictures_change(page, demo_bridge)
    assert errors(page) == []
    session = page.find_element(By.ID, 'session').get_attribute('textContent')
    page.execute_script(WATCH_STATES)

    demo_bridge.restart()

    wait(page, lambda: 'reconnecting' in page.execute_script('return window.camwsStates'),
         'the page notices that the bridge is away')
    wait_connected(page, RESTART_LIMIT)
    wait_pictures_change(page, demo_bridge, RESTART_LIMIT)
    wait(page, lambda: poses(page), 'poses come back')
    assert page.find_element(By.ID, 'session').get_attribute('textContent') != session
    assert [e for e in errors(page) if not RESTART_NOISE.search(e)] == []


# -- with tokens: a bridge of its own, in this process, whose images are made by hand ----------

# What a browser reports of an answer that the page expects.
REFUSED = re.compile(r'status of 401 |WebSocket connection to .* failed')


@pytest.fixture
def guarded(tmp_path: Path) -> 'Iterator[Any]':
    """Run a bridge with a token for everything and one for some streams."""
    from web_bridge import running_bridge

    from camws_bridge.tokens import digest_of, line_of, Token
    path = tmp_path / 'tokens'
    path.write_text('\n'.join(line_of(Token(name, digest_of(name), streams)) for name, streams in (
        ('everything-1', ()), ('some-streams-1', ('color', 'transforms_camera')))))
    with running_bridge(auth__tokens_file=str(path)) as bridge:
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(0.05):
                bridge.publish()

        publisher = threading.Thread(target=publish)
        publisher.start()
        yield bridge
        stop.set()
        publisher.join()


def live_tiles(browser: 'webdriver.Chrome') -> set[str]:
    """Return the streams whose pictures are drawn."""
    return {name for name, tile in snapshot(browser).items() if tile['view'] == 'live'}


def test_the_page_asks_for_a_token_and_keeps_it_out_of_the_address(
    browser: 'webdriver.Chrome', guarded: Any,
) -> None:
    """A wrong token is said to be wrong, a right one shows the pictures, also after a reload."""
    resize(browser, *WINDOW)
    browser.get_log('browser')
    browser.get(guarded.http)

    def note() -> str:
        return browser.find_element(By.ID, 'token-note').text

    def enter(text: str) -> None:
        browser.find_element(By.ID, 'token').send_keys(text)
        browser.find_element(By.CSS_SELECTOR, '#token-form button').click()

    wait(browser, lambda: 'wants a token' in note(), 'the page asks for a token')
    enter('wrong-token-1')
    wait(browser, lambda: 'wrong' in note(), 'the page says that the token is wrong')
    enter('everything-1')
    wait(browser, lambda: 'color' in live_tiles(browser), 'pictures come')
    browser.refresh()
    wait(browser, lambda: 'color' in live_tiles(browser), 'pictures come after a reload')
    assert not browser.find_element(By.ID, 'token-form').is_displayed()
    assert [e for e in errors(browser) if not REFUSED.search(e)] == []
    # Found in the address, it does not stay there.
    browser.execute_script('sessionStorage.clear()')
    browser.get(f'{guarded.http}/?token=everything-1&x=1')
    wait(browser, lambda: 'color' in live_tiles(browser), 'pictures come')
    assert browser.current_url == f'{guarded.http}/?x=1'
    assert 'everything-1' not in browser.execute_script('return document.body.innerHTML')
    assert [e for e in errors(browser) if not REFUSED.search(e)] == []


def test_a_still_is_opened_with_the_token(browser: 'webdriver.Chrome', guarded: Any) -> None:
    """The picture opens in a tab of its own, whose address holds no token."""
    browser.get(f'{guarded.http}/?token=everything-1')
    wait(browser, lambda: 'color' in live_tiles(browser), 'pictures come')
    first = browser.current_window_handle
    browser.find_element(By.CSS_SELECTOR, '[data-stream=color] [data-action=still]').click()
    wait(browser, lambda: len(browser.window_handles) == 2, 'a tab opens')
    try:
        browser.switch_to.window(next(it for it in browser.window_handles if it != first))
        assert browser.current_url.startswith('blob:')
        browser.close()
    finally:
        browser.switch_to.window(first)


def test_a_token_for_some_streams_shows_those(
    browser: 'webdriver.Chrome', guarded: Any,
) -> None:
    """Only what may be read has a tile; the catalogue says of the rest that it may not."""
    resize(browser, *WINDOW)
    browser.get(f'{guarded.http}/?token=some-streams-1')
    wait(browser, lambda: live_tiles(browser) == {'color'}, 'the picture comes')
    assert set(snapshot(browser)) == {'color'}
    wait(browser, lambda: poses(browser), 'poses come')
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#catalogue tbody tr')].map((r) => r.textContent)")
    assert any(row.startswith('rectified') and 'not for this stream' in row for row in rows)
    browser.execute_script('sessionStorage.clear()')
