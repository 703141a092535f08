"""`decode_graph` against its twin `images.decode`, bit for bit, for every kind of file that it reads."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tl_keras.data import decode_graph as decode_graph_module
from tl_keras.data import images
from tl_keras.data.decode_graph import decode_graph
from tl_keras.data.formats import HEAD_BYTES

RANDOM = np.random.default_rng(0)
PHOTO = Image.fromarray(RANDOM.integers(0, 256, (7, 9, 3), np.uint8)).resize((61, 43), Image.Resampling.BICUBIC)
ALPHA = Image.fromarray(np.asarray(PHOTO)[::-1, :, 0].copy())
PALETTE = PHOTO.quantize(16)
RGBA = Image.merge("RGBA", [*PHOTO.split(), ALPHA])
LA = Image.merge("LA", [PHOTO.convert("L"), ALPHA])
CMYK = Image.merge("CMYK", [*PHOTO.split(), ALPHA])
COLOUR_TYPES = {
    "grey": (0, 1),
    "rgb": (2, 3),
    "palette": (3, 1),
    "grey_alpha": (4, 2),
    "rgb_alpha": (6, 4),
}  # PNG: code, channels


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(colours, depth, *, transparent=None):
    """A PNG of any depth, which Pillow cannot write; `transparent` is its tRNS, by default none."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    code, channels = COLOUR_TYPES[colours]
    rows = RANDOM.integers(0, 2**depth, (13, 11 * channels))
    bits = (rows[..., np.newaxis] >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(13, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", 11, 13, depth, code, 0, 0, 0)
    palette = chunk(b"PLTE", RANDOM.integers(0, 256, 3 * 2**depth, np.uint8).tobytes()) if colours == "palette" else b""
    if transparent is None:
        transparency = b""
    elif colours == "palette":
        transparency = chunk(b"tRNS", transparent)
    else:  # the colour of the first pixel
        transparency = chunk(b"tRNS", rows[0, :channels].astype(">u2").tobytes())
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + transparency + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def without_adobe_marker(jpeg):
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def gif_on_larger_canvas(**options):
    gif = encode(PALETTE, "GIF", **options)
    frame = gif.index(b",\0\0\0\0")
    return gif[:6] + struct.pack("<HH", 70, 50) + gif[10 : frame + 1] + struct.pack("<HH", 5, 4) + gif[frame + 5 :]


def exif(orientation, order, *, tag=0x0112, dtype=3):
    """An EXIF block of two tags, the second of which is the orientation."""
    mark, o = {"big": (b"MM", ">"), "little": (b"II", "<")}[order]
    value = struct.pack(o + "I", orientation) if dtype in (4, 9) else struct.pack(o + "HH", orientation, 0)
    entries = struct.pack(o + "HHIHH", 0x0100, 3, 1, 9, 0) + struct.pack(o + "HHI", tag, dtype, 1) + value
    return b"Exif\0\0" + mark + struct.pack(o + "HIH", 42, 8, 2) + entries + b"\0\0\0\0"


def jpeg_with(segments, *, keep_jfif=True):
    """A JPEG whose header is followed by the given bytes."""
    jpeg = encode(PHOTO, "JPEG")
    return jpeg[:20] + segments + jpeg[20:] if keep_jfif else jpeg[:2] + segments + jpeg[20:]


def segment(content, marker=b"\xff\xe1"):
    return marker + struct.pack(">H", len(content) + 2) + content


def png_with(*chunks, wrong_checksum=False):
    """A PNG whose header is followed by chunks, each a name and its content."""
    data = encode(PHOTO, "PNG")
    parts = [struct.pack(">I", len(content)) + name + content for name, content in chunks]
    sums = [struct.pack(">I", zlib.crc32(part[4:]) ^ wrong_checksum) for part in parts]
    return data[:33] + b"".join(part + check for part, check in zip(parts, sums, strict=True)) + data[33:]


def webp_with(chunks, flags):
    """A WebP of the extended format, with chunks behind the pixels."""
    simple = encode(PHOTO, "WEBP")
    canvas = bytes([flags, 0, 0, 0]) + (60).to_bytes(3, "little") + (42).to_bytes(3, "little")
    tail = b"".join(name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + simple[12:] + tail
    return b"RIFF" + struct.pack("<I", len(body)) + body


def raw_profile(content):
    """EXIF as ImageMagick writes it into a PNG's text."""
    digits = content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return b"\nexif\n%8d\n%s\n" % (len(content), lines)


def xmp(orientation, before=b""):
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + before + b'<rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


SIX = exif(6, "big")
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PNG_XMP = b"XML:com.adobe.xmp\0"
PROFILE = b"Raw profile type exif\0"
ORIENTED = {  # turned by Pillow and by viewers, or not
    "jpeg_long": jpeg_with(segment(exif(6, "big", dtype=4))),
    "jpeg_long_little": jpeg_with(segment(exif(8, "little", dtype=4))),
    "jpeg_signed": jpeg_with(segment(exif(5, "big", dtype=9))),
    "jpeg_long_too_large": jpeg_with(segment(exif(0x00010006, "little", dtype=4))),
    "jpeg_mark_twice": jpeg_with(segment(b"Exif\0\0" + SIX)),
    "jpeg_mark_thrice": jpeg_with(segment(b"Exif\0\0Exif\0\0" + SIX)),
    "jpeg_xmp": jpeg_with(segment(XMP + xmp(6))),
    "jpeg_xmp_element": jpeg_with(segment(XMP + b"<tiff:Orientation>8</tiff:Orientation>")),
    "jpeg_xmp_second": jpeg_with(segment(XMP + xmp(6, b"<!-- tiff:Orientation is not this, and not tiff:Orientation=9 -->"))),
    "jpeg_xmp_not_utf_8": jpeg_with(segment(XMP + xmp(6, b"\xff\xfe\n"))),
    "jpeg_xmp_9": jpeg_with(segment(XMP + xmp(9))),
    "jpeg_xmp_cut": jpeg_with(segment(XMP + b'<x tiff:Orientation="')),
    "jpeg_xmp_without": jpeg_with(segment(XMP + b"<x/>")),
    "jpeg_exif_1_xmp_6": jpeg_with(segment(exif(1, "big")) + segment(XMP + xmp(6))),
    "jpeg_exif_0_xmp_6": jpeg_with(segment(exif(0, "big")) + segment(XMP + xmp(6))),
    "jpeg_exif_without_xmp_6": jpeg_with(segment(exif(6, "big", tag=0x0113)) + segment(XMP + xmp(6))),
    "png_profile": png_with((b"tEXt", PROFILE + raw_profile(SIX))),
    "png_profile_packed": png_with((b"zTXt", PROFILE + b"\0" + zlib.compress(raw_profile(SIX)))),
    "png_profile_short": png_with((b"tEXt", PROFILE + b"\nexif\n")),
    "png_other_text": png_with((b"tEXt", b"Raw profile type iptc\0" + raw_profile(SIX)), (b"zTXt", b"a\0\0" + zlib.compress(b"b"))),
    "png_exif_before_profile": png_with((b"eXIf", exif(1, "big")[6:]), (b"tEXt", PROFILE + raw_profile(SIX))),
    "png_xmp": png_with((b"iTXt", PNG_XMP + b"\0\0\0\0" + xmp(6))),
    "png_xmp_packed": png_with((b"iTXt", PNG_XMP + b"\1\0en\0key\0" + zlib.compress(xmp(6)))),
    "png_other_text_damaged": png_with((b"zTXt", b"Comment\0\0 is no stream of zlib's")),
    "png_xmp_empty": png_with((b"iTXt", PNG_XMP)),
    "png_exif_after_the_pixels": png_with()[:-12] + png_with((b"eXIf", SIX[6:]))[33 : 33 + 12 + len(SIX) - 6] + png_with()[-12:],
    "webp_exif": webp_with([(b"EXIF", SIX)], 8),
    "webp_exif_long": webp_with([(b"EXIF", exif(6, "little", dtype=4)[6:])], 8),
    "webp_exif_denied": webp_with([(b"EXIF", SIX)], 0),
    "webp_xmp": webp_with([(b"XMP ", xmp(6))], 4),
    "webp_xmp_denied": webp_with([(b"XMP ", xmp(6))], 8),
}
FILES = {
    "jpeg_444": encode(PHOTO, "JPEG", subsampling=0, quality=80),
    "jpeg_422": encode(PHOTO, "JPEG", subsampling=1, quality=80),
    "jpeg_420": encode(PHOTO, "JPEG", subsampling=2, quality=80),
    "jpeg_grey": encode(PHOTO.convert("L"), "JPEG"),
    "jpeg_progressive": encode(PHOTO, "JPEG", progressive=True),
    "jpeg_rgb": encode(PHOTO, "JPEG", keep_rgb=True),
    "jpeg_cmyk": encode(CMYK, "JPEG"),
    "jpeg_cmyk_not_adobe": without_adobe_marker(encode(CMYK, "JPEG")),
    "jpeg_exif_after_jfif": jpeg_with(segment(SIX)),
    "jpeg_exif_without_jfif": jpeg_with(segment(SIX), keep_jfif=False),
    "jpeg_exif_after_xmp": jpeg_with(segment(b"http://ns.adobe.com/xap/1.0/\0<x/>") + segment(SIX)),
    "jpeg_exif_after_filler": jpeg_with(b"\xff\xff" + segment(SIX)),
    "jpeg_exif_after_comment": jpeg_with(segment(b"Exif\0\0 is no tag here", b"\xff\xfe") + segment(SIX)),
    "jpeg_two_exifs": jpeg_with(segment(SIX) + segment(exif(3, "little"))),
    "jpeg_exif_no_orientation": jpeg_with(segment(exif(6, "big", tag=0x0113))),
    "jpeg_exif_orientation_of_odd_type": jpeg_with(segment(exif(6, "big", dtype=2))),
    "jpeg_exif_orientation_0": jpeg_with(segment(exif(0, "big"))),
    "jpeg_exif_orientation_9": jpeg_with(segment(exif(9, "little"))),
    "jpeg_exif_empty": jpeg_with(segment(b"Exif\0\0")),
    "jpeg_exif_cut_in_the_directory": jpeg_with(segment(SIX[:30])),
    "jpeg_exif_directory_beyond_the_end": jpeg_with(segment(b"Exif\0\0MM\0*\xff\xff\xff\xf0" + SIX[14:])),
    "png_rgb": encode(PHOTO, "PNG"),
    "png_rgba": encode(RGBA, "PNG"),
    "png_la": encode(LA, "PNG"),
    "png_palette": encode(PALETTE, "PNG"),
    "png_palette_transparent": encode(PALETTE, "PNG", transparency=3),
    "png_orientation": encode(PHOTO, "PNG", exif=SIX),
    **{f"png_{depth}_bit_grey": png("grey", depth) for depth in (1, 2, 4, 8, 16)},
    **{f"png_{depth}_bit_grey_transparent": png("grey", depth, transparent=b"") for depth in (1, 2, 4, 8, 16)},
    **{f"png_{depth}_bit_palette": png("palette", depth) for depth in (1, 2, 4, 8)},
    **{f"png_{depth}_bit_palette_transparent": png("palette", depth, transparent=bytes([0, 128])) for depth in (1, 2, 4, 8)},
    "png_8_bit_rgb_transparent": png("rgb", 8, transparent=b""),
    **{f"png_16_bit_{colours}": png(colours, 16) for colours in ("rgb", "grey_alpha", "rgb_alpha")},
    "bmp_rgb": encode(PHOTO, "BMP"),
    "bmp_grey": encode(PHOTO.convert("L"), "BMP"),
    "bmp_palette": encode(PALETTE, "BMP"),
    "bmp_32_bit": encode(RGBA, "BMP"),
    "gif": encode(PALETTE, "GIF"),
    "gif_87": encode(PALETTE, "GIF").replace(b"GIF89a", b"GIF87a"),
    "gif_grey": encode(PHOTO.convert("L"), "GIF"),
    "gif_interlaced": encode(PALETTE, "GIF", interlace=1),
    "gif_transparent": encode(PALETTE, "GIF", transparency=3),
    "gif_comment": encode(PALETTE, "GIF", transparency=3, comment=b"x" * 300),
    "gif_animated": encode(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90)], transparency=3),
    "gif_smaller_than_canvas": gif_on_larger_canvas(),
    "gif_smaller_than_canvas_transparent": gif_on_larger_canvas(transparency=3),
    "webp_lossy": encode(PHOTO, "WEBP"),
    "webp_lossy_even": encode(PHOTO.resize((40, 30)), "WEBP", quality=30),
    "webp_lossless": encode(PHOTO, "WEBP", lossless=True),
    "webp_alpha": encode(RGBA, "WEBP"),
    "webp_alpha_lossless": encode(RGBA, "WEBP", lossless=True, exact=True),
    "webp_orientation": encode(PHOTO, "WEBP", exif=SIX),
}
FILES |= ORIENTED
FILES |= {
    "png_wrong_checksum_of_text": png_with((b"tEXt", b"Comment\0hello"), wrong_checksum=True),
    "png_long_text": png_with((b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000))),
    "png_long_profile": png_with((b"iCCP", b"profile\0\0" + zlib.compress(b"\0" * 2_000_000))),
}
IN_GRAPH = tf.function(decode_graph, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_decode_graph_equals_decode(name):
    expected = images.decode(FILES[name], name)
    np.testing.assert_array_equal(IN_GRAPH(FILES[name]), expected)


@pytest.mark.parametrize("name", ["jpeg_exif_after_jfif", "png_4_bit_grey_transparent", "gif_transparent", "bmp_palette", "webp_alpha"])
def test_decode_graph_eager_equals_decode(name):
    np.testing.assert_array_equal(decode_graph(tf.constant(FILES[name])), images.decode(FILES[name], name))


@pytest.mark.parametrize("name", [name for name in sorted(FILES.keys() - ORIENTED) if "_exif_" in name or name.endswith("orientation")])
def test_samples_are_turned_or_not_as_their_name_says(name):
    is_turned = "after" in name or "without_jfif" in name or name in ("webp_orientation", "png_orientation")
    assert images.decode(FILES[name], name).shape == ((61, 43, 3) if is_turned else (43, 61, 3))


@pytest.mark.parametrize("name", ORIENTED)
def test_images_are_turned_as_pillow_turns_them(name):
    with Image.open(io.BytesIO(ORIENTED[name])) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(images.decode(ORIENTED[name], name), expected)


def test_samples_are_turned_by_their_names():
    turned = {name for name, data in ORIENTED.items() if images.decode(data, name).shape == (61, 43, 3)}
    still = ("too_large", "thrice", "_9", "cut", "xmp_without", "exif_1", "exif_0", "short", "other", "before", "empty", "denied")
    assert turned == {name for name in ORIENTED if not any(part in name for part in still)}


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_graph_turns_an_image_upright(orientation, order):
    plain = images.decode(jpeg_with(b""), "plain")
    data = jpeg_with(segment(exif(orientation, order)))
    decoded = IN_GRAPH(data).numpy()
    np.testing.assert_array_equal(decoded, images._upright(plain, orientation))
    np.testing.assert_array_equal(decoded, images.decode(data, "a"))


@pytest.mark.parametrize(
    "name", ["png_16_bit_grey", "png_16_bit_grey_transparent", "png_8_bit_grey", "png_16_bit_rgb", "png_16_bit_grey_alpha"]
)
def test_decode_graph_scales_greys_of_fewer_bits_as_decode_does(name):
    expected = images.decode(FILES[name], name, images.Decoding(bit_depth=12))
    np.testing.assert_array_equal(decode_graph(tf.constant(FILES[name]), 12), expected)
    assert (name in ("png_16_bit_grey", "png_16_bit_grey_transparent")) == (expected != images.decode(FILES[name], name)).any()


@pytest.mark.parametrize(("limit", "shape"), [(61 * 43, (43, 61, 3)), (61 * 43 - 1, (22, 31, 3)), (21 * 16, (11, 16, 3)), (1, (6, 8, 3))])
@pytest.mark.parametrize("name", ["jpeg_444", "jpeg_422", "jpeg_420", "jpeg_grey", "jpeg_cmyk", "jpeg_progressive"])
def test_a_jpeg_over_the_limit_is_reduced_alike(name, limit, shape, monkeypatch):
    monkeypatch.setattr(images, "WHOLE_JPEG", limit)
    monkeypatch.setattr(decode_graph_module, "WHOLE_JPEG", limit)
    expected = images.decode(FILES[name], name)
    assert expected.shape == shape
    np.testing.assert_array_equal(decode_graph(tf.constant(FILES[name])), expected)


@pytest.mark.parametrize("name", FILES)
def test_files_that_decode_are_not_said_to_be_refused(name):
    assert decode_graph_module.refused_kind(FILES[name][:HEAD_BYTES]) is None


def test_a_gif_is_white_around_its_first_frame_and_where_transparent():
    decoded = IN_GRAPH(FILES["gif_smaller_than_canvas_transparent"]).numpy()
    frame = np.asarray(PALETTE.convert("RGB")).copy()
    frame[np.asarray(PALETTE) == 3] = 255
    np.testing.assert_array_equal(decoded[4:47, 5:66], frame)
    decoded[4:47, 5:66] = 255
    assert decoded.shape == (50, 70, 3)
    assert (decoded == 255).all()


@pytest.mark.slow
def test_decode_graph_runs_over_a_batch_of_strings():
    data = tf.constant([FILES["jpeg_420"], FILES["png_rgb"], FILES["gif"]])
    fitted = tf.function(
        lambda strings: tf.map_fn(
            lambda one: images.resize(IN_GRAPH(one), (8, 8), "crop"),  # traced once, as in an export
            strings,
            fn_output_signature=tf.TensorSpec((8, 8, 3), tf.uint8),
        )
    )(data)
    expected = [images.resize(images.decode(one, "a"), (8, 8), "crop") for one in data.numpy()]
    np.testing.assert_array_equal(fitted, np.stack(expected))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("TIFF", encode(PHOTO, "TIFF")),
        ("1-bit BMP", encode(PHOTO.convert("1"), "BMP")),
        ("animated WebP", encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)])),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("unknown", b"hello"),
        ("unknown", b""),
    ],
)
def test_what_is_refused_has_a_name(kind, data):
    assert decode_graph_module.refused_kind(data[:HEAD_BYTES]) == kind
    with pytest.raises(tf.errors.InvalidArgumentError):
        IN_GRAPH(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(PHOTO, "TIFF"), "TensorFlow reads no TIFF"),
        (b"", "Expected a JPEG, PNG, GIF, BMP or WebP file"),
        (b"\x89\xff no UTF-8", "Expected a JPEG, PNG, GIF, BMP or WebP file"),
        (encode(PHOTO.convert("1"), "BMP"), "Expected an uncompressed BMP of 8, 24 or 32 bits"),
        (encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)]), "Expected a still WebP"),
        (FILES["jpeg_420"][:300], "JPEG"),
        (FILES["png_rgb"][:300], "PNG"),
        (FILES["gif"][:6], "GIF|slice|substr|pos"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
    ],
)
def test_decode_graph_refuses(data, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        IN_GRAPH(data)
