"""``camws_bridge check-board FILE IMAGE``: say what a picture shows of a board."""
from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
import sys

import numpy as np

from camws_bridge.commands.board_options import (
    add_board_options, board_of, CommandError, write_file, WRONG)
from camws_bridge.models import Array, CameraModel, Detection, Frame, Stamp, Variant
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.services.image_service import ImageService
from camws_bridge.settings import Settings
from camws_bridge.vision.boards import Board, BoardError
from camws_bridge.vision.camera import CalibrationError
from camws_bridge.vision.camera_files import read_camera
from camws_bridge.vision.encoding import decode, encode, JPEG, PNG
from camws_bridge.vision.geometry import invert
from camws_bridge.vision.pixel_formats import ImageError

AS_DESCRIBED, DEVIATES, NOT_SEEN = 0, 1, 3
_SUFFIXES = {'.png': PNG, '.jpg': JPEG, '.jpeg': JPEG}


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """
    What a picture shows of a board.

    ``errors`` are the rms distances (px) by id of where the markers are seen from where the board
    says they should be; ``error`` that over all, None when the board was not made out.
    ``camera_on_board`` is x, y, z (metres) with a calibrated camera.
    """

    found: tuple[int, ...]
    missing: tuple[int, ...]
    repeated: tuple[int, ...]
    foreign: tuple[int, ...]
    errors: dict[int, float]
    error: float | None
    camera_on_board: tuple[float, float, float] | None

    def verdict(self, most_error: float) -> int:
        """Return the exit code."""
        if self.error is None:
            return NOT_SEEN
        good = not self.missing and not self.repeated and self.error <= most_error
        return AS_DESCRIBED if good else DEVIATES


def run(arguments: Sequence[str]) -> int:
    """Check the picture; return the exit code that the help text describes."""
    options = _parser().parse_args(arguments)
    try:
        board = board_of(options.file, options)
        camera = read_camera(options.camera) if options.camera else None
        image = _read_image(options.image)
        findings, overlay = examine(board, image, camera)
        if options.out:
            write_file(options.out, _encode(overlay, options.out))
    except (BoardError, CalibrationError, CommandError, ImageError) as error:
        print(f'camws_bridge check-board: {error}', file=sys.stderr)
        return WRONG
    print('\n'.join(describe(board, findings, camera is not None)))
    return findings.verdict(options.max_error)


def examine(board: Board, image: Array, camera: CameraModel | None) -> tuple[Findings, Array]:
    """
    Return what an image (BGR, uint8) shows, and the image with that drawn in.

    Raises CommandError for intrinsics of another image size.
    """
    height, width = image.shape[:2]
    if camera is not None and (camera.width, camera.height) != (width, height):
        raise CommandError(f'the camera file is for {camera.width}x{camera.height} pixels, the '
                           f'image has {width}x{height}')
    settings = Settings().with_values({'markers.dictionary': board.dictionary})
    aruco = ArucoService(settings, board)
    context = FrameContext(Frame(0, Stamp(0, 0), '', width, height, pixels=image, camera=camera),
                           settings)
    findings = _find(board, aruco, context)
    overlay = ImageService(aruco).picture(context, Variant('aruco_debug'))
    assert overlay is not None
    return findings, overlay


def _find(board: Board, aruco: ArucoService, context: FrameContext) -> Findings:
    snapshot = aruco.analyse(context)
    seen = Counter(marker.marker_id for marker in snapshot.seen)
    matched = board.match([Detection(marker.marker_id, marker.corners)
                           for marker in snapshot.seen])
    project = aruco.board_projection(context) if matched else None
    errors = {}
    for detection in matched:
        expected = project(board.marker_corners(detection.marker_id)) if project else None
        if expected is not None:
            errors[detection.marker_id] = float(np.sqrt(np.mean(
                np.sum((expected - detection.corners) ** 2, axis=1))))
    camera_on_board = None
    if snapshot.board is not None:
        x, y, z = invert(snapshot.board.camera_from_board)[:3, 3].tolist()
        camera_on_board = (x, y, z)
    return Findings(
        found=tuple(sorted(marker for marker in seen if marker in board.marker_ids)),
        missing=tuple(marker for marker in board.marker_ids if marker not in seen),
        repeated=tuple(sorted(marker for marker in seen
                              if marker in board.marker_ids and seen[marker] > 1)),
        foreign=tuple(sorted(marker for marker in seen if marker not in board.marker_ids)),
        errors=errors, camera_on_board=camera_on_board,
        error=float(np.sqrt(np.mean(np.square(list(errors.values()))))) if errors else None)


def describe(board: Board, findings: Findings, calibrated: bool) -> list[str]:
    """Return the lines that a person reads."""
    lines = [f'board:     {len(board.marker_ids)} markers of {board.dictionary}',
             f'found:     {_list(findings.found)}', f'missing:   {_list(findings.missing)}',
             f'repeated:  {_list(findings.repeated)}', f'foreign:   {_list(findings.foreign)}']
    if findings.error is None:
        return [*lines, 'the board was not made out']
    worst = max(findings.errors, key=lambda marker: findings.errors[marker])
    how = 'by its pose' if calibrated else 'as a flat board; without --camera the lens counts, too'
    lines.append(f'error:     {findings.error:.2f} px rms over {len(findings.errors)} markers '
                 f'({how}); worst {findings.errors[worst]:.2f} px, marker {worst}')
    if findings.camera_on_board is not None:
        place = ', '.join(f'{value:.4f}' for value in findings.camera_on_board)
        lines.append(f'camera at: {place} m on the board')
    return lines


def _list(ids: Iterable[int]) -> str:
    ids = list(ids)
    return f'{len(ids)} ({", ".join(map(str, ids))})' if ids else 'none'


def _read_image(path: str) -> Array:
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        raise CommandError(f"image '{path}': {error.strerror}") from error
    except ImageError as error:
        raise CommandError(f"image '{path}': it is no image that OpenCV reads") from error


def _encode(image: Array, path: str) -> bytes:
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise CommandError(f"'{path}' is not allowed; allowed: a name that ends in "
                           f'{", ".join(_SUFFIXES)}')
    return encode(image, _SUFFIXES[suffix], 92)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='camws_bridge check-board',
        description='Say which markers of a board a picture shows, and how well they fit.',
        epilog='exit codes: 0 the whole board is there as described; 1 markers are missing or '
        'stand twice, or the error is greater than --max-error; 3 the board was not made out; '
        '2 a file or an argument cannot be used')
    parser.add_argument('file', help='board file (docs/boards.md)')
    parser.add_argument('image', help='picture (PNG, JPEG)')
    add_board_options(parser)
    parser.add_argument('--camera', help='intrinsics: calibration YAML of ROS, or a camera_info')
    parser.add_argument('--out', metavar='OVERLAY', help='write the picture with the findings '
                        'drawn in (.png, .jpg)')
    parser.add_argument('--max-error', type=float, default=1.0, metavar='PIXELS',
                        help='greatest rms error that counts as good (default: %(default)s)')
    return parser
