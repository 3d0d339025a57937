"""
Targets for atheris: ``python -m benchmarks.fuzzing.targets TARGET [libFuzzer's arguments]``.

Each takes any bytes; only the error that is promised for what is not allowed may come out.
"""
from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path
import sys

import atheris
import numpy as np

with atheris.instrument_imports(include=['camws_bridge']):
    from camws_bridge.api.v1.endpoints import websockets
    from camws_bridge.tokens import parse_tokens
    from camws_bridge.vision import encoding, pixel_formats
    from camws_bridge.vision.board_entries import BoardError
    from camws_bridge.vision.board_files import BoardDefaults, make_board_of_yaml, parse_csv
    from camws_bridge.vision.pixel_formats import ImageError
    from camws_bridge.vision.text_files import FileError, load_yaml
    from camws_bridge.websockets import options
    from camws_bridge.websockets.options import OptionError

_EMBEDDABLE = ('camera_info', 'markers', 'transforms_board')
_DEFAULTS = BoardDefaults('DICT_5X5_100', 0.05)
_NAMES = ('fps', 'width', 'quality', 'id', 'embed', 'adaptive')
# Larger ones only make the fuzzer slow.
_MOST_PIXELS = 1 << 20


def message(data: bytes) -> None:
    """Take a message of a camws.v1 client, as bytes and as text."""
    for received in (data, data.decode('utf-8', 'ignore')):
        try:
            request = websockets._parse(received)
            options.apply(options.ClientOptions(), request, _EMBEDDABLE).as_dict()
        except OptionError as error:
            websockets.cut(str(error)).encode()


def query(data: bytes) -> None:
    """Take the options of a query string."""
    provider = atheris.FuzzedDataProvider(data)
    values = {name: provider.ConsumeUnicode(20) for name in _NAMES if provider.ConsumeBool()}
    try:
        options.parse_query(values, _EMBEDDABLE).as_dict()
    except OptionError:
        pass


def image(data: bytes) -> None:
    """Take a raw image: size, step, encoding and bytes that need not fit."""
    provider = atheris.FuzzedDataProvider(data)
    name = provider.PickValueInList(sorted(pixel_formats.FORMATS))
    width, height = provider.ConsumeIntInRange(0, 40), provider.ConsumeIntInRange(0, 40)
    step, is_big = provider.ConsumeIntInRange(0, 400), provider.ConsumeBool()
    rest = provider.ConsumeBytes(provider.remaining_bytes())
    try:
        pixels = pixel_formats.view_pixels(memoryview(rest), width, height, name, step, is_big)
        pixel_formats.to_viewable(pixels, name)
        pixel_formats.to_gray(pixels, name)
        pixel_formats.to_bgr(pixels, name)
    except ImageError:
        pass


def image_file(data: bytes) -> None:
    """Take a compressed image."""
    for start in (b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n'):
        try:
            _, width, height = encoding.inspect(start + data)
            if width * height <= _MOST_PIXELS:
                encoding.decode(start + data)
        except ImageError:
            pass


def board(data: bytes) -> None:
    """Take a board file, as YAML and as CSV."""
    text = data.decode('utf-8', 'ignore')
    for parse in (lambda: make_board_of_yaml(load_yaml(text), _DEFAULTS),
                  lambda: parse_csv(text, _DEFAULTS)):
        try:
            parse()
        except (BoardError, FileError):
            pass


def tokens(data: bytes) -> None:
    """Take a file of tokens."""
    try:
        parse_tokens(data.decode('utf-8', 'ignore'))
    except ValueError as error:
        assert 'line' in str(error)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (message, query, image, image_file, board, tokens)}


def _seeds(target: str) -> list[bytes]:
    """Return what is right, so that a change of it is only a little wrong."""
    if target == 'message':
        return [b'{"op":"ack","seq":1}', b'{"op":"time","t0":1.5}',
                b'{"op":"configure","fps":7.5,"width":160,"quality":40,"window":3,"id":7,'
                b'"embed":["markers"],"adaptive":true}']
    if target == 'board':
        folder = Path(__file__).resolve().parents[2] / 'config/boards'
        return [path.read_bytes() for path in sorted(folder.iterdir())]
    if target == 'image_file':
        picture = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
        return [encoding.encode(picture, kind, 80) for kind in (encoding.JPEG, encoding.PNG)]
    if target == 'tokens':
        return [f'pad:{hashlib.sha256(b"x").hexdigest()}:color,transforms_*\n'.encode()]
    return []


def _plant(folder: Path, target: str) -> None:
    for seed in _seeds(target):
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == '__main__':
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f'usage: benchmarks/fuzz TARGET [SECONDS]; targets: {" ".join(TARGETS)}')
    _plant(Path(sys.argv[-1]), sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
