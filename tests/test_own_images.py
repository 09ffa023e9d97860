"""Images of the user's own: whatever they are, the model sees a digit as MNIST has them."""

import io
import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image, ImageDraw, ImageFont

import common


@pytest.fixture(scope="module")
def digit(data):
    """A test image, [28, 28] in 0 to 255: a 3, without its margin."""
    images = common.first_images(data.test_images, data.test_labels)
    return (255 * images[3].view(28, 28).numpy()).round().astype(np.uint8)


def large(digit, width=300, height=400):
    """A large drawing of it, bright on dark, somewhere in a larger image."""
    page = Image.new("L", (width + 500, height + 300))
    page.paste(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC), (350, 40))
    return page


def transparent(page, colour):
    image = Image.new("RGBA", page.size, colour)
    image.putalpha(page)
    return image


PAPER = {"pen": ((235, 230, 220), (40, 50, 130)), "chalk": ((40, 65, 50), (215, 225, 215))}
PAPER |= {"red pencil": ((242, 242, 242), (230, 120, 120)), "equally bright": ((90, 158, 90), (230, 90, 90))}


def photograph(page, paper="pen", light=1.0, spread=3):
    """A page on paper, taken in a `light` [height, width] by a camera whose noise has this spread."""
    ground, ink = map(np.array, PAPER[paper])
    drawn = np.asarray(page)[..., None] / 255
    noise = np.random.default_rng(0).normal(0, spread, (page.height, page.width, 1))
    lit = (ground + drawn * (ink - ground)) * np.broadcast_to(light, (page.height, page.width))[..., None]
    return Image.fromarray((lit + noise).clip(0, 255).astype(np.uint8))


Y, X = np.mgrid[0:700, 0:800] / 700
LIGHTS = {
    "a lamp at the side": 1 - 0.6 * X / X.max(),
    "a vignette": 1 - 1.2 * ((X - 0.57) ** 2 + (Y - 0.5) ** 2),
    "a lamp in the middle": 0.4 + 0.6 * np.exp(-8 * ((X - 0.57) ** 2 + (Y - 0.5) ** 2)),
    "a hand's shadow from below": 1 - 0.5 / (1 + np.exp((0.45 - Y) / 0.01)),
    "a head's shadow in a corner": 1 - 0.55 / (1 + np.exp((np.hypot(X - 1.14, Y - 1) - 0.6) / 0.01)),
}


def likeness(one, other):
    """The correlation of two digits."""
    return torch.corrcoef(torch.stack([one, other]))[0, 1].item()


def likeness_or_refused(image, expected):
    """How like a digit is to the expected one; 1 where a line says that the light is too uneven."""
    try:
        return likeness(common.read_digit(image), expected)
    except common.UserError as error:
        assert "too uneven" in str(error)
        return 1.0


PHOTOGRAPHS = [("pen", light) for light in LIGHTS]
PHOTOGRAPHS += [(paper, light) for paper in list(PAPER)[1:] for light in ("a vignette", "a hand's shadow from below")]


@pytest.mark.parametrize(("paper", "light"), PHOTOGRAPHS)
def test_light_and_colours_do_not_matter(digit, paper, light):
    image, expected = photograph(large(digit), paper, LIGHTS[light]), common.read_digit(large(digit))
    if paper != "pen" and "shadow" in light:  # as dark as faint ink: nothing is guessed
        assert likeness_or_refused(image, expected) > 0.75
    else:
        assert likeness(common.read_digit(image), expected) > 0.9


def test_light_that_is_too_uneven_is_told(digit):
    """The shadow of a telephone, which is as narrow as a stroke might be."""
    shadow = 1 - 0.5 * ((np.abs(X - 0.35) < 0.1) & (Y > 0.3))
    with pytest.raises(common.UserError, match="the light in the image is too uneven to tell the digit from shadows"):
        common.read_digit(photograph(large(digit), "pen", shadow))


def test_an_image_in_memory_is_read_as_from_a_file(digit, tmp_path):
    page = large(digit)
    page.save(tmp_path / "x.png")
    expected = common.read_digit(str(tmp_path / "x.png"))
    with open(tmp_path / "x.png", "rb") as file:
        for image in (page, np.asarray(page), torch.from_numpy(np.array(page)), file):
            assert torch.equal(common.read_digit(image), expected)
    rows = torch.from_numpy(digit).flatten()
    for image in (rows, rows[None], rows.numpy(), common.to_float(rows), rows.view(1, 28, 28)):  # as the models take it
        assert torch.equal(common.read_digit(image), common.to_float(rows))
    for wrong in (3, None, np.zeros((3, 4, 5, 6)), [["a"]], np.zeros((0, 5), np.uint8), page.crop((0, 0, 0, 0))):
        with pytest.raises(common.UserError, match="^the image cannot be read as an image"):
            common.read_digit(wrong)


def in_16_bits(page):
    return Image.fromarray(np.asarray(page).astype(np.uint16) * 257)


WAYS = {
    "bright on dark": lambda page: page,
    "dark on bright": lambda page: page.point(lambda value: 255 - value),
    "in colours": lambda page: page.convert("RGB"),
    "black on nothing": lambda page: transparent(page, "black"),
    "white on nothing": lambda page: transparent(page, "white"),
    "with a palette": lambda page: page.convert("P"),
    "in 16 bits": in_16_bits,
    "grey with alpha": lambda page: page.point(lambda value: 255 - value).convert("LA"),
    "a photograph": lambda page: photograph(page, "pen", np.linspace(1, 0.85, page.height)[:, None], spread=4),
    "faint": lambda page: page.point(lambda value: 200 - value // 4),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_digit_is_read_however_it_was_made(digit, way, tmp_path):
    WAYS[way](large(digit)).save(tmp_path / "x.png")
    image = common.read_digit(tmp_path / "x.png")
    assert image.shape == (784,) and image.dtype == torch.float32 and image.min() == 0 and image.max() == 1
    lit = (image.view(28, 28) > 0.5).nonzero()
    assert (lit.amax(dim=0) - lit.amin(dim=0) + 1).max() in (18, 19, 20) and lit.min() >= 1 and lit.max() <= 26
    for axis in (0, 1):  # the centre of mass
        share = image.view(28, 28).sum(dim=axis) / image.sum()
        assert (share * torch.arange(28)).sum().item() == pytest.approx(14, abs=0.7)
    expected = torch.from_numpy(digit / 255).view(784).float()
    assert likeness(image, expected) > 0.7  # it is drawn three quarters as wide as the original


SPOILS = {
    "a dark pixel in a corner": ((0, 0), (0, 0)),
    "a speck": ((700, 600), (708, 606)),
    "a dark row at the top": ((0, 0), (799, 3)),
    "a dark bar at the left": ((0, 0), (60, 699)),
    "a line from the right": ((760, 300), (799, 304)),
}


@pytest.mark.parametrize("width", [14, 40])
def test_the_frame_of_a_scanner_on_noisy_paper_is_left_out(digit, width):
    page = large(digit)
    expected = common.read_digit(page)
    ImageDraw.Draw(page).rectangle([0, 0, page.width - 1, page.height - 1], outline=255, width=width)
    file = io.BytesIO()
    photograph(page).save(file, "jpeg", quality=75)
    assert likeness_or_refused(file, expected) > 0.85


@pytest.mark.parametrize("light", [(np.hypot(X - 0.9, Y - 0.9) < 0.6), (X < 0.4) & (Y < 0.35)], ids=["round", "corner"])
def test_a_shadow_in_a_jpeg_is_no_ink(digit, light):
    """Of which large parts have one colour exactly, as drawings have."""
    file = io.BytesIO()
    photograph(large(digit), "pen", 1 - 0.5 * light).save(file, "jpeg", quality=70)
    assert likeness_or_refused(file, common.read_digit(large(digit))) > 0.75


@pytest.mark.parametrize("kind", [*SPOILS, "a scanner's frame"])
@pytest.mark.parametrize("strength", [255, 90])
def test_what_lies_around_the_digit_is_left_out(digit, kind, strength, tmp_path):
    """In black, around a digit in black or in grey."""
    clean = large(digit).point(lambda value: value * strength // 255)
    spoiled = clean.copy()
    pen = ImageDraw.Draw(spoiled)
    if kind == "a scanner's frame":
        pen.rectangle([0, 0, spoiled.width - 1, spoiled.height - 1], outline=255, width=14)
    else:
        pen.rectangle(SPOILS[kind], fill=255)
    for name, image in (("clean", clean), ("spoiled", spoiled)):
        image.point(lambda value: 255 - value).save(tmp_path / f"{name}.png")
    expected, found = common.read_digit(tmp_path / "clean.png"), common.read_digit(tmp_path / "spoiled.png")
    assert (expected - found).abs().mean() < 0.02


def test_a_digit_that_touches_the_edge_is_whole(digit, tmp_path):
    page = Image.fromarray(digit).resize((300, 300), Image.Resampling.BICUBIC)
    page.crop(page.point(lambda value: 255 * (value > 127)).getbbox()).save(tmp_path / "cropped.png")
    page.save(tmp_path / "whole.png")
    cropped, whole = common.read_digit(tmp_path / "cropped.png"), common.read_digit(tmp_path / "whole.png")
    assert (cropped - whole).abs().mean() < 0.05


@pytest.mark.parametrize("margin", [0, 5, 30])
@pytest.mark.parametrize("text", "01478")
def test_bold_digits_that_fill_the_image(text, margin, tmp_path):
    """Where the digit is larger than what lies around it, the edge says which is which."""
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"), 300)
    page = Image.new("L", (500, 500))
    ImageDraw.Draw(page).text((100, 50), text, fill=255, font=font)
    left, top, right, bottom = page.getbbox()
    page.crop((left - margin, top - margin, right + margin, bottom + margin)).save(tmp_path / "x.png")
    page.save(tmp_path / "whole.png")
    found, whole = common.read_digit(tmp_path / "x.png"), common.read_digit(tmp_path / "whole.png")
    assert likeness(found, whole) > 0.8  # a pixel to the side


def test_a_digit_that_touches_the_edge_and_a_dot_that_does_not(tmp_path):
    page = Image.new("L", (300, 300))
    pen = ImageDraw.Draw(page)
    pen.ellipse([0, 0, 299, 299], outline=255, width=40)
    pen.ellipse([130, 130, 165, 165], fill=255)
    page.save(tmp_path / "x.png")
    lit = (common.read_digit(tmp_path / "x.png").view(28, 28) > 0.5).nonzero()
    assert (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist() == [20, 20]


def test_a_small_digit_in_a_large_image_is_sharp(digit, tmp_path):
    page = Image.new("L", (2400, 2400))
    page.paste(large(digit, 60, 80).crop((340, 30, 430, 140)), (1500, 900))
    page.save(tmp_path / "small.png")
    large(digit, 300, 400).save(tmp_path / "large.png")
    small, expected = common.read_digit(tmp_path / "small.png"), common.read_digit(tmp_path / "large.png")
    assert likeness(small, expected) > 0.95


def test_28_x_28_in_16_bits(digit, tmp_path):
    image = np.zeros((28, 28), np.uint16)
    image[4:24, 12:16] = 65535
    Image.fromarray(image).save(tmp_path / "x.png")
    assert common.read_digit(tmp_path / "x.png").dtype == torch.float32


def test_a_digit_in_two_parts_is_whole(tmp_path):
    page = Image.new("L", (200, 200))
    pen = ImageDraw.Draw(page)
    pen.line([(60, 40), (60, 90), (130, 90)], fill=255, width=12)
    pen.line([(110, 110), (110, 170)], fill=255, width=12)
    page.save(tmp_path / "4.png")
    lit = (common.read_digit(tmp_path / "4.png").view(28, 28) > 0.5).nonzero()
    assert (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist()[0] >= 19


def test_an_image_as_mnist_has_it_stays_as_it_is(digit, tmp_path):
    Image.fromarray(digit).save(tmp_path / "x.png")
    assert torch.equal(common.read_digit(tmp_path / "x.png"), torch.from_numpy(digit / np.float32(255)).view(784))


def test_a_camera_that_was_turned(digit, tmp_path):
    page = large(digit)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter when it is shown
    page.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    page.save(tmp_path / "x.jpg")
    turned, straight = common.read_digit(tmp_path / "turned.jpg"), common.read_digit(tmp_path / "x.jpg")
    assert (turned - straight).abs().mean() < 0.01


BAD = {
    "missing": (None, "there is no such file"),
    "text": (b"hello", "in no format that can be read here: save it as JPEG or PNG .HEIC"),
    "empty": (b"", "in no format that can be read here"),
    "cut off": ("cut", "truncated|broken"),
    "blank": ("blank", "nothing is drawn"),
    "not numbers": ("NaN", "NaN or infinity"),
    "huge": ("huge", "cannot be read as an image"),
    "a folder": ("folder", "it is not a file"),
    "a pipe": ("pipe", "it is not a file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_told_in_one_line(digit, kind, tmp_path):
    content, words = BAD[kind]
    path = tmp_path / "x.png"
    if content == "blank":
        Image.new("L", (50, 50), 128).save(path)
    elif content == "NaN":
        Image.fromarray(np.full((50, 50), np.nan, np.float32)).save(path, format="TIFF")
    elif content == "huge":
        Image.new("1", (12_000, 12_000)).save(path)
    elif content == "folder":
        path.mkdir()
    elif content == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with a name")
        os.mkfifo(path)
    elif content == "cut":
        large(digit).save(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(common.UserError, match=words) as error:
        common.read_digit(path)
    assert str(error.value).isprintable() and "x.png" in str(error.value)


def test_the_command(digit, room, call, monkeypatch):
    """The picture has the digit as the model sees it, its reconstruction, and the units that carry it."""
    monkeypatch.chdir(room)
    large(digit).save(room / "my three.png")
    WAYS["a photograph"](large(digit)).save(room / "photo.jpg")
    options = ["--checkpoint", "l1.pt", "--output-dir", "out", "--image", "my three.png", "--image", "photo.jpg"]
    result = call("sparse_l1", *options)
    assert result.status == 0, result.err
    assert "  out/l1_image_my three.png\n  out/l1_image_photo.png\n" in result.out
    pixels = imread(room / "out" / "l1_image_my three.png")[:, :, 0]
    image = common.read_digit(room / "my three.png").view(28, 28).numpy()
    top = pixels.shape[0] - 12 - 14 - 56
    assert np.abs(1 - pixels[top : top + 56 : 2, 26 : 26 + 56 : 2] - image).max() < 0.02


def test_bad_files_are_told_one_by_one_before_the_work(digit, room, call, monkeypatch):
    monkeypatch.chdir(room)
    large(digit).save(room / "x.png")
    (room / "notes.txt").write_text("mine")
    (room / "x").mkdir()
    large(digit).save(room / "x" / "x.png")
    options = ["--train", "--checkpoint", "new.pt", "--output-dir", "out", "--image"]
    result = call("sparse_l1", *options, "x.png", "notes.txt", "none.png", "x/x.png")
    lines = result.err.splitlines()
    assert (result.status, result.out, len(lines)) == (1, "", 3), result
    assert all(line.startswith("sparse_l1.py: error: ") for line in lines)
    assert "notes.txt is in no format" in lines[0] and "none.png" in lines[1] and "two images are called x" in lines[2]
    assert not (room / "new.pt").exists()
