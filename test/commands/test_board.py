import re
import struct

from builders import ROOT
import numpy as np
import pytest

from camws_bridge.commands.board import caption, run
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.encoding import decode

BOARDS = ROOT / 'config/boards'
GRID_CSV = 'id,x,y,z,length\n3,0,0,0,0.06\n9,0.08,0,0,0.04\n'


def run_lines(capsys, *arguments):
    code = run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def pixels_per_metre(data):
    at = data.index(b'pHYs')
    x, y, unit = struct.unpack('>IIB', data[at + 4:at + 13])
    assert (x, unit) == (y, 1)
    return x


@pytest.mark.parametrize(('dpi', 'per_metre'), [(300, 11811), (150, 5906)])
def test_a_png_tells_its_scale_and_keeps_to_it(tmp_path, capsys, dpi, per_metre):
    (tmp_path / 'board.csv').write_text(GRID_CSV)
    out = tmp_path / 'board.png'
    code, said = run_lines(capsys, out, '--file', tmp_path / 'board.csv', '--dpi', dpi)
    assert code == 0 and 'A4' in said and 'ruler' in said
    data = out.read_bytes()
    assert pixels_per_metre(data) == per_metre
    image = decode(data, gray=True)
    assert image.shape == (round(0.297 * per_metre), round(0.21 * per_metre))
    # The row through the middle of both markers: from the first's left to the second's right edge.
    rows = image[:, :].min(axis=1)
    first = int(np.flatnonzero(rows[round(0.012 * per_metre):] == 0)[0]) + round(0.012 * per_metre)
    middle = image[first + round(0.0302 * per_metre)]
    black = np.flatnonzero(middle == 0)
    assert (black[-1] + 1 - black[0]) / per_metre == pytest.approx(0.13, abs=1.1 / per_metre)


def test_a_pdf_is_written(tmp_path, capsys):
    pytest.importorskip('reportlab')
    out = tmp_path / 'board.PDF'
    code, said = run_lines(capsys, out, '--file', BOARDS / 'charuco.yaml', '--page', 'A3')
    assert (code, out.read_bytes()[:5]) == (0, b'%PDF-')
    assert '420 x 297 mm (A3)' in said


@pytest.mark.parametrize(('out', 'file', 'options', 'said'), [
    ('a.png', 'charuco.yaml', (), 'does not fit on A4 .*allowed: A3, or fit'),
    ('a.svg', 'charuco.yaml', (), "a.svg' is not allowed; allowed: a name that ends in"),
    ('a.png', 'none.yaml', (), "none.yaml': No such file"),
    ('no/such/a.png', 'charuco.yaml', ('--page', 'A3', '--dpi', '72'), "cannot write '.*No such"),
    ('a.png', 'charuco.yaml', ('--name', 'x'), "board.name is 'x'"),
    ('a.png', 'demo_board.yaml', ('--page', 'A0', '--dpi', '4800'), 'pixels are too many')])
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, out, file, options, said):
    code, text = run_lines(capsys, tmp_path / out, '--file', BOARDS / file, *options)
    assert code == 2
    assert text.count('\n') == 1 and text.startswith('camws_bridge board: ')
    assert re.search(said, text), text


@pytest.mark.parametrize('options', [('--page', 'A9'), ('--dpi', '5'), ('--dpi', 'x')])
def test_a_wrong_option_is_refused(tmp_path, options):
    with pytest.raises(SystemExit) as caught:
        run([str(tmp_path / 'a.png'), '--file', 'x', *options])
    assert caught.value.code == 2


def test_the_caption_describes_the_board():
    board = read_board(str(BOARDS / 'charuco.yaml'), BoardDefaults(''))
    text = ' '.join(caption(board, 'my.yaml'))
    assert 'my.yaml: DICT_5X5_100, ids 0-16, side 30 mm' in text
    assert 'squares of 40 mm' in text and 'area 280 x 200 mm' in text
    text = ' '.join(caption(read_board(str(BOARDS / 'markers.yaml'), BoardDefaults('')), 'm'))
    assert 'ids 20-22' in text and 'z out of the sheet' in text
