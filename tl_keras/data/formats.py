"""The image format of a file, by its first bytes, since its name is not reliable.

The one place that knows how files begin. It imports nothing heavy, so that folders can be scanned before TensorFlow is
imported. `sources` asks what to list, `images` how to decode.
"""

import re

HEAD_BYTES = 64  # of a file's beginning that `image_format` looks at

# Raw files of cameras are TIFF files whose first image is a small preview: by their bytes they would be taken for photos.
CAMERA_RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".k25", ".kdc", ".mef", ".nef", ".nrw", ".pef", ".srw"}
)

_BMP_HEADERS = b"\x0c\x10\x28\x34\x38\x40\x6c\x7c"  # the sizes that a bitmap's header may have; text may begin with BM, too

_BEGINNINGS = {
    "jpeg": rb"\xff\xd8\xff",  # also .jpe, .jfif and, with several images, .mpo
    "png": rb"\x89PNG\r\n\x1a\n",
    "gif": rb"GIF8[79]a",
    "bmp": rb"BM.{12}[" + re.escape(_BMP_HEADERS) + rb"]\0\0\0",
    "webp": rb"RIFF....WEBP",
    "tiff": rb"(?:II\*\0|MM\0\*|II\+\0|MM\0\+)(?!....CR\x02)",  # not Canon's raw files
}
_BEGINNINGS_COMPILED = {name: re.compile(pattern, re.DOTALL) for name, pattern in _BEGINNINGS.items()}

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def image_format(head: bytes) -> str | None:
    """Recognise an image by the beginning of its file.

    Args:
        head: the first `HEAD_BYTES` bytes, or all of a file that is shorter. More does no harm.

    Returns:
        'jpeg', 'png', 'gif', 'bmp', 'webp', 'tiff', 'heic' or 'avif'; None for anything else. The rest of the file may
        still be damaged.
    """
    for name, beginning in _BEGINNINGS_COMPILED.items():
        if beginning.match(head):
            return name
    return _by_brand(head[:HEAD_BYTES]) if head[4:8] == b"ftyp" else None


def _by_brand(head: bytes) -> str | None:
    """The kind of an ISO media file, whose first box lists brands: its own, a version, then those that it is compatible with.

    The generic mif1 and msf1 stand for either kind; the compatible brands settle it. Video files have other brands.
    """
    end = min(len(head), int.from_bytes(head[:4], "big"))
    compatible = {head[at : at + 4] for at in range(16, end, 4)}
    own = head[8:12]
    if own in _AVIF_BRANDS or (own in (b"mif1", b"msf1") and compatible & _AVIF_BRANDS):
        return "avif"
    return "heic" if own in _HEIC_BRANDS else None
