import json
import re

from builders import GRID, make_view, ROOT
import cv2
import numpy as np
import pytest
import yaml

from camws_bridge.commands import board as print_command
from camws_bridge.commands.check_board import run
from camws_bridge.services.pose_messages import calibration_object

VIEW = make_view()


@pytest.fixture
def files(tmp_path):
    (tmp_path / 'board.yaml').write_text(yaml.safe_dump(GRID))
    (tmp_path / 'camera.json').write_text(json.dumps(calibration_object(VIEW.camera)))
    cv2.imwrite(str(tmp_path / 'view.png'), VIEW.gray)
    hidden = VIEW.gray.copy()
    hidden[80:240, 70:140] = 120
    cv2.imwrite(str(tmp_path / 'hidden.png'), hidden)
    cv2.imwrite(str(tmp_path / 'empty.png'), np.full((360, 480), 120, np.uint8))
    return tmp_path


def check(capsys, files, image, *options):
    code = run([str(files / 'board.yaml'), str(files / image),
                *(str(files / option) if '.' in option and not option[0].isdigit() else option
                  for option in options)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize('camera', [(), ('--camera', 'camera.json')])
def test_a_whole_board_is_found_with_what_is_beside_it(capsys, files, camera):
    code, said, _ = check(capsys, files, 'view.png', *camera)
    assert code == 0
    assert 'found:     12 (0, 1,' in said
    assert 'missing:   none' in said and 'foreign:   2 (40, 42)' in said
    assert 'rms over 12 markers' in said
    assert ('camera at: ' in said) == bool(camera)


def test_missing_markers_are_named(capsys, files):
    code, said, _ = check(capsys, files, 'hidden.png')
    assert code == 1
    assert 'missing:   3 (' in said and 'rms over 9 markers' in said


def test_a_board_that_is_not_there(capsys, files):
    code, said, _ = check(capsys, files, 'empty.png')
    assert code == 3
    assert 'found:     none' in said and 'not made out' in said


def test_a_board_described_wrongly_has_a_large_error(capsys, files):
    (files / 'board.yaml').write_text(yaml.safe_dump({**GRID, 'separation_m': 0.013}))
    code, said, _ = check(capsys, files, 'view.png', '--camera', 'camera.json')
    assert code in (1, 3)
    assert 'missing:   none' in said
    assert check(capsys, files, 'view.png', '--max-error', '50')[0] == 0


def test_the_overlay_is_written(capsys, files):
    assert check(capsys, files, 'view.png', '--out', 'seen.png')[0] == 0
    overlay = cv2.imread(str(files / 'seen.png'))
    assert overlay.shape == (360, 480, 3)
    drawn = np.any(overlay != VIEW.gray[..., np.newaxis], axis=2)
    assert 0.01 < drawn.mean() < 0.5


@pytest.mark.parametrize(('image', 'options', 'said'), [
    ('none.png', (), 'No such file'), ('board.yaml', (), 'no image that OpenCV reads'),
    ('view.png', ('--camera', 'none.yaml'), 'none.yaml.*No such file'),
    ('view.png', ('--out', 'a.gif'), 'allowed: a name that ends in .png'),
    ('view.png', ('--dictionary', 'DICT_X'), "'DICT_X' is not a marker dictionary"),
    ('small.png', ('--camera', 'camera.json'), 'is for 480x360 pixels, the image has 100x100')])
def test_what_cannot_be_done_is_one_line(capsys, files, image, options, said):
    cv2.imwrite(str(files / 'small.png'), np.zeros((100, 100), np.uint8))
    code, _, text = check(capsys, files, image, *options)
    assert code == 2
    assert text.count('\n') == 1 and text.startswith('camws_bridge check-board: ')
    assert re.search(said, text), text


@pytest.mark.parametrize('name', ['demo_board.yaml', 'charuco.yaml', 'markers.yaml'])
def test_what_is_printed_is_found(capsys, tmp_path, name):
    path, picture = str(ROOT / 'config/boards' / name), str(tmp_path / 'board.png')
    assert print_command.run([picture, '--file', path, '--page', 'fit', '--dpi', '100']) == 0
    assert run([path, picture]) == 0
    assert 'missing:   none' in capsys.readouterr().out
