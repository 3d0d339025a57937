"""A page as PDF: every black area is one path, so that its modules meet without a seam."""
from __future__ import annotations

from io import BytesIO

from camws_bridge.commands.board_options import CommandError
from camws_bridge.vision.board_print import modules_of, Page

_POINTS = 72 / 0.0254       # a metre, in PDF's unit
# Capital letters of Helvetica are 0.718 of its size (Adobe's font metrics).
_CAPITALS = 0.718
_NON_ZERO = 1               # reportlab's FILL_NON_ZERO, which its types do not know


def to_pdf(page: Page, title: str) -> bytes:
    """Return the PDF file of a page; raises CommandError when reportlab is missing."""
    try:
        from reportlab.pdfgen.canvas import Canvas
    except ImportError as error:
        raise CommandError('a PDF needs the Python package reportlab (pip install reportlab, or '
                           'apt-get install python3-reportlab); PNG needs nothing') from error
    height = page.height * _POINTS
    data = BytesIO()
    canvas = Canvas(data, pagesize=(page.width * _POINTS, height), invariant=1)
    canvas.setTitle(title)
    # Viewers shrink to the printer's margins unless the file asks them not to.
    canvas.setViewerPreference('PrintScaling', 'None')
    for ink in page.inks:
        path = canvas.beginPath()
        for outline in modules_of(ink):
            (x, y), *others = (outline * _POINTS).tolist()
            path.moveTo(x, height - y)
            for x, y in others:
                path.lineTo(x, height - y)
            path.close()
        canvas.drawPath(path, stroke=0, fill=1, fillMode=_NON_ZERO)
    for bar in page.bars:
        canvas.rect(bar.left * _POINTS, height - bar.bottom * _POINTS,
                    (bar.right - bar.left) * _POINTS, (bar.bottom - bar.top) * _POINTS,
                    stroke=0, fill=1)
    canvas.setFont('Helvetica', page.text_height * _POINTS / _CAPITALS)
    for text in page.texts:
        canvas.drawString(text.x * _POINTS, height - text.y * _POINTS, text.text)
    canvas.save()
    return data.getvalue()
