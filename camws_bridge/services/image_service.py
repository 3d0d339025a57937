"""
The catalogue of image products: which function of ``vision`` makes which stream.

A new product is one pure function in ``vision/``, one entry in CATALOGUE, one test.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from camws_bridge.models import Array, CameraModel, Variant
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.vision import encoding, image_ops
from camws_bridge.vision.camera import is_rectified, rectification_maps
from camws_bridge.vision.encoding import JPEG, PNG
from camws_bridge.vision.projection import by_pose

RAW = 'application/octet-stream'


@dataclass(frozen=True, slots=True)
class EncodedProduct:
    """
    A product ready to send: the file and the size (px) of the picture in it.

    ``encoding`` (a ROS name) and ``step`` (bytes by row) describe raw pixels.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    encoding: str = ''
    step: int = 0


@dataclass(frozen=True, slots=True)
class ImageProduct:
    """
    One image stream.

    ``render`` makes the picture of a frame, or None when this frame has none. ``needs`` names
    what must be there: ``calibration``, ``board``, ``depth``. ``smooth`` products are averaged
    when they are shrunk, the others keep their values. ``passthrough``: a JPEG from the camera is
    this product already. ``takes_id``: clients may choose a marker. ``shows_poses``: it is made of
    what was detected in the frame.
    """

    stream_id: str
    content_type: str
    description: str
    render: Callable[[ImageService, FrameContext, Variant], Array | None]
    needs: frozenset[str] = frozenset()
    smooth: bool = True
    passthrough: bool = False
    takes_id: bool = False
    shows_poses: bool = False


class ImageService:
    """
    Makes image products. Several threads may, of different streams.

    ``widths`` are those of the newest pictures by stream (px), before they were resized.
    """

    def __init__(self, aruco: ArucoService) -> None:
        """``aruco`` finds the markers that products show."""
        self.widths: dict[str, int] = {}
        self._aruco = aruco
        self._maps: tuple[CameraModel, tuple[Array, Array]] | None = None

    def produce(self, context: FrameContext, variant: Variant) -> EncodedProduct | None:
        """
        Return a variant of a product, or None when this frame has none.

        Encoded once per frame for all variants that differ only in their framing.
        """
        product = CATALOGUE[variant.stream_id]
        content_type = variant.content_type or product.content_type
        if content_type == RAW:
            return context.once(('raw', variant.stream_id), lambda: _raw(context, variant))
        key = ('encoded', product.stream_id, variant.marker_id, variant.width, variant.quality,
               content_type)
        return context.once(key, lambda: self._encode(context, product, variant, content_type))

    def _encode(self, context: FrameContext, product: ImageProduct, variant: Variant,
                content_type: str) -> EncodedProduct | None:
        frame = context.frame
        if product.passthrough:
            self.widths[product.stream_id] = frame.width
        if (product.passthrough and frame.encoded is not None and variant.quality is None
                and frame.encoded.content_type == content_type
                and (variant.width is None or variant.width >= frame.width)):
            return EncodedProduct(frame.encoded.data, content_type, frame.width, frame.height)
        image = self.picture(context, variant)
        if image is None:
            return None
        self.widths[product.stream_id] = image.shape[1]
        image = context.once(
            ('resized', product.stream_id, variant.marker_id, variant.width),
            lambda: image_ops.resize_to_width(image, variant.width, product.smooth))
        quality = variant.quality or context.settings.jpeg.quality
        data = encoding.encode(image, content_type, quality)
        return EncodedProduct(data, content_type, image.shape[1], image.shape[0])

    def picture(self, context: FrameContext, variant: Variant) -> Array | None:
        """Return the pixels of a product (see its ``render``), made once per frame."""
        product = CATALOGUE[variant.stream_id]
        return context.once(('picture', product.stream_id, variant.marker_id),
                            lambda: product.render(self, context, variant))

    def rectified(self, context: FrameContext, _: Variant) -> Array | None:
        """Render ``rectified``."""
        camera = context.frame.camera
        if camera is None:
            return None
        if is_rectified(camera):
            return context.viewable
        if self._maps is None or self._maps[0] is not camera:
            self._maps = (camera, rectification_maps(camera))
        return image_ops.rectify(context.viewable, self._maps[1])

    def aruco_debug(self, context: FrameContext, _: Variant) -> Array:
        """Render ``aruco_debug``."""
        snapshot, camera = self._aruco.analyse(context), context.frame.camera
        image = image_ops.drawable(context.viewable)
        board, project = self._aruco.board, self._aruco.board_projection(context)
        if board is not None and project is not None:
            outline = image_ops.trace_outline(project, board.outline)
            if outline is not None:
                image_ops.draw_area(image, outline)
        for marker in snapshot.seen:
            image_ops.draw_marker(image, marker.corners, str(marker.marker_id))
        if camera is None:
            return image
        for solved in snapshot.markers:
            image_ops.draw_axes(image, by_pose(camera, solved.camera_from_marker),
                                solved.length / 2)
        if board is not None and snapshot.board is not None:
            size = 0.25 * (board.area[2] - board.area[0])
            pose = snapshot.board.camera_from_board
            image_ops.draw_axes(image, by_pose(camera, pose), size, 'board')
            if self._aruco.board_from_robot is not None:
                image_ops.draw_axes(image, by_pose(camera, pose @ self._aruco.board_from_robot),
                                    size, 'robot')
        return image

    def board_perspective(self, context: FrameContext, _: Variant) -> Array | None:
        """Render ``board_perspective``."""
        board, project = self._aruco.board, self._aruco.board_projection(context)
        if board is None or project is None:
            return None
        view_map = image_ops.board_view_map(project, board.area, context.settings.board.view_width)
        return None if view_map is None else image_ops.board_view(context.viewable, view_map)

    def board_mask(self, context: FrameContext, _: Variant) -> Array | None:
        """Render ``board_mask``."""
        board, project = self._aruco.board, self._aruco.board_projection(context)
        outline = (image_ops.trace_outline(project, board.outline)
                   if board is not None and project is not None else None)
        if outline is None:
            return None
        return image_ops.outline_mask(context.frame.width, context.frame.height, [outline])

    def marker_mask(self, context: FrameContext, variant: Variant) -> Array | None:
        """Render ``marker_mask``: all markers, or those with the variant's id."""
        outlines = [marker.corners for marker in self._aruco.analyse(context).seen
                    if variant.marker_id in (None, marker.marker_id)]
        if not outlines:
            return None
        return image_ops.outline_mask(context.frame.width, context.frame.height, outlines)


def _color(_service: ImageService, context: FrameContext, _: Variant) -> Array:
    return context.viewable


def _depth(_service: ImageService, context: FrameContext, _: Variant) -> Array | None:
    depth, limits = context.frame.depth, context.settings.depth
    return None if depth is None else image_ops.colour_depth(depth, limits.min_m, limits.max_m)


def _depth_raw(_service: ImageService, context: FrameContext, _: Variant) -> Array | None:
    depth = context.frame.depth
    return None if depth is None else image_ops.depth_to_millimetres(depth)


def _raw(context: FrameContext, variant: Variant) -> EncodedProduct | None:
    """Return the camera's own pixels, rows packed, of ``color`` or ``depth``."""
    frame = context.frame
    if variant.stream_id == 'depth':
        if frame.depth is None:
            return None
        encoding_name = '16UC1' if frame.depth.dtype.itemsize == 2 else '32FC1'
        return _packed(frame.depth, encoding_name, frame.depth.shape[1], frame.depth.shape[0])
    if frame.pixels is not None:
        return _packed(frame.pixels, frame.encoding, frame.width, frame.height)
    viewable = context.viewable
    return _packed(viewable, 'bgr8' if viewable.ndim == 3 else 'mono8', frame.width, frame.height)


def _packed(pixels: Array, encoding_name: str, width: int, height: int) -> EncodedProduct:
    data = pixels.tobytes()
    return EncodedProduct(data, RAW, width, height, encoding_name, len(data) // len(pixels))


def _catalogue(*products: ImageProduct) -> dict[str, ImageProduct]:
    return {product.stream_id: product for product in products}


CATALOGUE = _catalogue(
    ImageProduct('color', JPEG, 'the camera image', _color, passthrough=True),
    ImageProduct('rectified', JPEG, 'the image with lens distortion removed',
                 ImageService.rectified, frozenset({'calibration'})),
    ImageProduct('aruco_debug', JPEG, 'the image with markers, board and robot drawn in',
                 ImageService.aruco_debug, shows_poses=True),
    ImageProduct('board_perspective', JPEG, 'the board seen straight from above',
                 ImageService.board_perspective, frozenset({'board'}), shows_poses=True),
    ImageProduct('board_mask', PNG, "255 inside the board's outline",
                 ImageService.board_mask, frozenset({'board'}), smooth=False, shows_poses=True),
    ImageProduct('marker_mask', PNG, '255 inside the marker outlines; ?id=7 for one marker',
                 ImageService.marker_mask, smooth=False, takes_id=True,
                 shows_poses=True),
    ImageProduct('depth', JPEG, 'depth in false colour; no depth is black',
                 _depth, frozenset({'depth'})),
    ImageProduct('depth_raw', PNG, 'depth as 16-bit millimetres; 0 is no depth',
                 _depth_raw, frozenset({'depth'}), smooth=False),
)
