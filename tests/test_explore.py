"""The page, explore/, in a real browser, opened from disk: what it shows against what Python says of the same images,
and what one does with it."""

import base64
import io
import json
import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import methods
import numpy as np
import pytest
import torch
import write
from conftest import METHODS, ROOT
from PIL import Image, ImageDraw

import common

EXPLORE = ROOT / "explore"
FIRST = "sparse_ksparse_k25"  # what the page shows when its address names no model
NAMES = ("sparse_l1", "sparse_kl", *(f"sparse_ksparse_k{k}" for k in (5, 10, 25, 50, 100)))

# The page draws when the browser is ready for a frame, 60 times a second, and reads the models that nobody asked for
# while nothing else happens: tests would mostly wait for that.
WITHOUT_WAITING = """
    globalThis.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()));
    globalThis.requestIdleCallback = work => { globalThis.whenIdle = work; };
"""
IDLE = """() => {
    globalThis.requestIdleCallback = work => setTimeout(work);
    globalThis.whenIdle?.();
    delete globalThis.whenIdle;
}"""
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PLAIN = "(_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value"


@pytest.fixture(scope="module")
def context(browser):
    """One for most pages, which so share a process and open in half the time."""
    return browser.new_context()


@pytest.fixture
def visit(browser, context):
    """visit(address, folder, ...): the page as it is when it has been opened; with `options`, in a context of its own.
    Afterwards: it has said nothing in the console, raised nothing, and asked for nothing but files. Of a missing one a
    browser always tells the console."""
    opened, faults = [], []

    def visit(address="", folder=EXPLORE, viewport=(1400, 900), **options):
        opened.append(browser.new_page(**options) if options else context.new_page())
        page = opened[-1]
        page.set_viewport_size(dict(zip(("width", "height"), viewport, strict=True)))
        page.add_init_script(WITHOUT_WAITING)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: is_of_missing_file(message) or faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: is_local(request.url) or faults.append(request.url))
        page.goto(f"{(folder / 'index.html').as_uri()}#{address}", wait_until="commit")
        page.wait_for_function("globalThis.explorer?.view || globalThis.message?.textContent")
        return page

    def is_local(address):
        return address.startswith(("file:", "data:", "blob:"))

    def is_of_missing_file(message):
        is_its_file = re.search(r"/(own|images_[^/]*|models/[^/]*)\.js$", message.location.get("url", ""))
        return is_its_file and "ERR_FILE_NOT_FOUND" in message.text

    yield visit
    for page in opened:
        page.close()
    assert faults == []


@pytest.fixture
def folder(tmp_path):
    """A folder with the page, MNIST's test images, and no model."""
    for name in ("index.html", "images_MNIST.js"):
        shutil.copy(EXPLORE / name, tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def digits(data):
    """The ten test digits of the page's buttons, [10, 784] in [0, 1]."""
    return common.first_images(data.test_images, data.test_labels)


def model_file(folder, name):
    return folder / "models" / f"{name}.js"


def content_of(folder, name):
    """What a model's file hands to the page."""
    return json.loads(model_file(folder, name).read_text().removeprefix("explore(").removesuffix(");\n"))


def values_of(page, expression):
    """What a JavaScript expression is, typed arrays as lists. (As text, since Playwright takes long for lists.)"""
    return json.loads(page.evaluate(f"JSON.stringify({expression}, {PLAIN})"))


def wait(page, condition, arg=None):
    """Until a condition holds, and the page has been drawn since."""
    page.wait_for_function(condition, arg=arg)
    page.evaluate(SETTLED)


def look(page):
    """What the page shows, once it has been drawn."""
    page.evaluate(SETTLED)
    view = values_of(page, "explorer.view")
    view["shown_error"] = float(page.inner_text("#error"))
    view["shown_active"] = int(re.search(r"(\d+) of \d+", page.inner_text("#code-note"))[1])
    return view


def draw(page, *points):
    """A stroke through points of the drawing area, whose corners are (0, 0) and (1, 1)."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()


def go(page, address):
    """Follow an address."""
    page.evaluate("address => { location.hash = address; }", address)


def choose_model(page, name):
    page.locator("#models button").evaluate_all(
        "(tiles, name) => tiles.find(tile => tile.dataset.name === name).click()", name
    )
    wait(page, "name => explorer.model?.name === name", arg=name)


def wait_for_models(page):
    """Until every model has redrawn the present drawing."""
    page.evaluate(IDLE)
    wait(page, "[...models.children].every(tile => /error/.test(tile.innerText) && tile.ariaBusy === 'false')")


def listed_models(page, which=""):
    """The names of the models that one can choose, or of those that are pressed."""
    return page.locator(f"#models button{which}").evaluate_all("tiles => tiles.map(tile => tile.dataset.name)")


def pressed_models(page):
    return listed_models(page, "[aria-pressed=true]")


def open_part(page, part):
    """Open a part of the page that is folded."""
    page.locator(part).evaluate_all("parts => parts.forEach(part => { part.open = true; })")
    page.evaluate(SETTLED)


def slide(page, slider, value):
    page.locator(slider).evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )
    page.evaluate(SETTLED)


def press_digit(page, digit):
    page.locator("#digits button").nth(digit).evaluate("button => button.click()")


def pressed_digit(page):
    return page.locator("#digits button[aria-pressed=true]").inner_text()


def pixels_of(page, canvas):
    """The colours [n, 3] of a canvas."""
    png = page.locator(canvas).first.evaluate("canvas => canvas.toDataURL().split(',')[1]")
    return torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))).int().flatten(0, 1)


def painted_image(page, canvas):
    """The image [784] in [0, 1] that a canvas shows in grey."""
    return (255 - pixels_of(page, canvas)[:, 0]) / (255 - 0x11)


def extent(image):
    """The height and width of what is inked in an image [784]."""
    inked = (torch.tensor(image).view(28, 28) > 0.5).nonzero()
    return (inked.amax(dim=0) - inked.amin(dim=0) + 1).tolist()


def tile(page, index=0):
    """A term of the sum."""
    return page.locator("#sum button[data-unit]:visible").nth(index)


def turn(page, index, times):
    """Choose a term of the sum, and turn it."""
    tile(page, index).click()
    page.evaluate(SETTLED)
    slide(page, "#dial", times)


def shown_unit(page):
    """The number of the unit that the card is about."""
    return int(page.inner_text("#unit-title").split()[-1])


# Against Python


@torch.no_grad()
def test_code_redrawing_and_error_are_the_models(visit, digits):
    page = visit()
    for name in NAMES:
        model = common.load_pretrained(name)
        choose_model(page, name)
        for digit in range(10) if name == FIRST else (2, 7):
            press_digit(page, digit)
            view, (image, code) = look(page), (values[0] for values in model(digits[digit : digit + 1]))
            assert torch.tensor(view["input"]).equal(digits[digit])
            assert torch.allclose(torch.tensor(view["code"]), code, atol=3e-3), name
            assert torch.allclose(torch.tensor(view["image"]), image, atol=1e-3), name
            assert view["error"] == pytest.approx((image - digits[digit]).square().mean().item(), rel=1e-3), name
            assert view["active"] == pytest.approx((code > model.active_above).sum().item(), abs=1), name
            assert view["shown_active"] == view["active"] and view["shown_error"] == round(view["error"], 4)
        assert f"{content_of(EXPLORE, name)['mse']:.4f}" in page.inner_text("#typical")
    assert torch.allclose(painted_image(page, "#input"), digits[7], atol=0.005)
    assert torch.allclose(painted_image(page, "#image"), image, atol=0.005)


@pytest.mark.parametrize("name", ["sparse_l1", "sparse_kl", "sparse_ksparse_k25"])
@torch.no_grad()
def test_the_sum_with_some_units_kept_and_some_turned_is_the_models(visit, digits, data, name):
    model = common.load_pretrained(name)
    all_code = common.evaluate(model, data.test_images).code
    rest, code = all_code.median(dim=0).values, model.encode(digits[2:3])[0]
    sizes = (code - rest).abs() * model.dictionary.norm(dim=1)
    ranked = sizes.argsort(descending=True)
    page = visit(f"{name}?digit=2")
    page.locator("#rest").evaluate("button => button.click()")
    page.evaluate(SETTLED)
    terms = page.locator("#sum button[data-unit]:visible").evaluate_all(
        "tiles => tiles.map(tile => [Number(tile.dataset.unit), tile.children[0].textContent])"
    )
    units = [unit for unit, _ in terms]
    assert sizes[units].tolist() == pytest.approx(sizes[ranked[: len(units)]].tolist(), rel=1e-3)
    assert set((code > model.active_above).nonzero()[:, 0].tolist()) <= set(units)
    assert sizes[ranked[len(units) :]].max() <= 0.1 * sizes.max()  # what is no term hardly matters
    for unit, text in terms:
        times = float(text.removesuffix(" ×").replace("+ ", "").replace("− ", "-"))
        assert times == pytest.approx((code[unit] - rest[unit]).item(), abs=0.01 if abs(times) < 9.9 else 0.1)
    red, _, blue = pixels_of(page, "#sum button canvas").T
    picture = model.dictionary[units[0]]
    strong = picture.abs() > picture.abs().max() / 2
    assert (red - blue)[strong].sign().equal(picture[strong].sign().int())

    slide(page, "#kept", 0)
    average = model.decode(rest[None])[0]
    assert torch.allclose(painted_image(page, "#average"), average, atol=0.005)
    assert torch.allclose(torch.tensor(look(page)["image"]), average, atol=1e-3)
    off, turned, idle = ranked[1].item(), ranked[0].item(), (code <= model.active_above).nonzero()[3].item()
    go(page, f"{name}/{idle}?digit=2&kept=8&turned={off}:0,{turned}:-1")
    wait(page, "unit => explorer.state.unit === unit && explorer.state.turned.size === 2", arg=idle)
    slide(page, "#dial", 2)
    view = look(page)
    active_code = all_code[:, idle][all_code[:, idle] > model.active_above]
    bin_width = (active_code.max().item() - model.active_above) / 20
    assert view["whole"][idle] == pytest.approx(2 * active_code.mean().item(), abs=bin_width)
    expected = rest.clone()
    expected[ranked[:8]] = code[ranked[:8]]
    expected[[off, turned, idle]] = torch.tensor([0, -code[turned].item(), view["whole"][idle]])
    image = model.decode(expected[None])[0]
    assert torch.allclose(torch.tensor(view["image"]), image, atol=1e-3)
    assert view["error"] == pytest.approx((image - digits[2]).square().mean().item(), rel=1e-3)
    assert page.locator("#sum .turned:visible").count() == 3  # also the one that is not active
    assert page.locator("#sum .left-out:visible").count() == page.locator("#sum [data-unit]:visible").count() - 9


@torch.no_grad()
def test_k_is_a_slider_and_stays_when_the_model_changes(visit, digits):
    model = common.load_pretrained("sparse_ksparse_k25")
    page = visit("sparse_ksparse_k25?digit=7")
    as_trained = look(page)["error"]
    for position in (0, 11):
        slide(page, "#k", position)
        view, model.k = look(page), position + 1
        expected = (model(digits[7:8])[0] - digits[7]).square().mean().item()
        assert view["active"] == model.k and view["error"] == pytest.approx(expected, rel=1e-3)
        assert expected > as_trained
    choose_model(page, "sparse_l1")
    assert not page.is_visible("#k") and pressed_digit(page) == "7"
    choose_model(page, "sparse_ksparse_k50")
    assert look(page)["active"] == 12
    choose_model(page, "sparse_ksparse_k25")
    slide(page, "#k", 24)
    assert look(page)["error"] == as_trained


@torch.no_grad()
def test_every_model_redraws_the_same_drawing(visit):
    page = visit("sparse_l1")
    wait_for_models(page)
    draw(page, (0.3, 0.2), (0.7, 0.2), (0.4, 0.85))
    image = torch.tensor(look(page)["input"])[None]
    wait_for_models(page)
    assert listed_models(page) == list(NAMES) and pressed_models(page) == ["sparse_l1"]
    for index, text in enumerate(page.locator("#models button").all_inner_texts()):
        model = common.load_pretrained(NAMES[index])
        redrawn, code = model(image)
        error, active = re.search(r"error (0\.\d+)\s+(\d+) active", text).groups()
        assert float(error) == pytest.approx((redrawn - image).square().mean().item(), abs=6e-5), NAMES[index]
        assert int(active) == pytest.approx((code > model.active_above).sum().item(), abs=1), NAMES[index]
        shown = painted_image(page, f"#models button:nth-child({index + 1}) canvas")
        assert torch.allclose(shown, redrawn[0], atol=0.006), NAMES[index]
    choose_model(page, "sparse_kl")
    assert look(page)["input"] == image[0].tolist() and pressed_models(page) == ["sparse_kl"]


@pytest.mark.parametrize("name", ["sparse_l1", "sparse_ksparse_k25"])
@torch.no_grad()
def test_a_units_card_says_what_is_true_of_the_test_images(visit, data, name):
    model = common.load_pretrained(name)
    code = common.evaluate(model, data.test_images).code
    largest, numbers = (values.T for values in code.topk(12, dim=0))
    page = visit(name)
    listed = torch.tensor(values_of(page, "explorer.model.strongest")).view(-1, 12)
    assert (listed == numbers.where(largest > model.active_above, -1)).float().mean() > 0.999

    wait(page, "explorer.testImages")
    for unit in (0, 300):
        go(page, f"{name}/{unit}")
        wait(page, "unit => explorer.state.unit === unit", arg=unit)
        active_code = code[:, unit][code[:, unit] > model.active_above]
        assert f"Active on {len(active_code) / 100:.1f} % of the test images" in page.inner_text("#unit-note")
        counts = torch.histc(active_code, 20, model.active_above, active_code.max().item())
        heights = page.locator("#histogram rect").evaluate_all("bars => bars.map(bar => bar.height.baseVal.value)")
        assert heights == pytest.approx((70 * counts / counts.max()).tolist(), abs=0.5)
        means = torch.stack([code[data.test_labels == digit, unit].mean() for digit in range(10)])
        percents = [int(text.rstrip("%")) for text in page.locator("#bars small").all_inner_texts()]
        assert percents == pytest.approx((100 * means / means.sum()).tolist(), abs=0.8)
        heights = page.locator("#bars i").evaluate_all(
            "bars => bars.map(bar => parseFloat(bar.style.backgroundSize.split(' ')[1]))"
        )
        assert heights == pytest.approx((100 * means / means.max()).tolist(), abs=1)

        examples = page.locator("#strongest button:visible")
        assert examples.evaluate_all("all => all.map(one => Number(one.dataset.image))") == listed[unit].tolist()
        shown = [float(text) for text in examples.locator("small").all_inner_texts()]
        assert shown == pytest.approx(largest[unit].tolist(), rel=6e-3)
        examples.nth(3).click()
        assert torch.tensor(look(page)["input"]).equal(common.to_float(data.test_images[listed[unit, 3]]))
        assert shown_unit(page) == unit and examples.nth(3).get_attribute("aria-pressed") == "true"

    red, _, blue = pixels_of(page, "#strongest canvas").T  # what the unit explains is red
    image, picture = common.to_float(data.test_images[listed[unit, 0]]), model.dictionary[unit]
    drawn = (image > 0.9) & (picture > 0.5 * picture.max())
    others = (image > 0.9) & (picture.abs() < 0.02 * picture.max())
    assert (red - blue)[drawn].min() > 80 > 30 > (red - blue)[others].abs().max()


# Drawing


def test_a_stroke_undo_and_clear(visit):
    page = visit()
    digit = look(page)["input"]
    draw(page, (0.5, 0.2), (0.5, 0.8))
    one, before = look(page), pixels_of(page, "#pad")
    assert one["input"] != digit and one["active"] == 25
    assert max(one["input"]) > 0.95 and sum(0.05 < value < 0.95 for value in one["input"]) > 20  # the brush is soft
    draw(page, (0.54, 0.2), (0.54, 0.8))
    assert sum(look(page)["input"]) > sum(one["input"])
    assert (pixels_of(page, "#pad") <= before).all()  # no ink of the first is lost
    page.click("#undo")
    assert look(page)["input"] == one["input"]

    tops = "['code', 'others', 'all'].map(id => document.getElementById(id).getBoundingClientRect().top)"
    places = page.evaluate(tops)
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    page.evaluate(SETTLED)
    assert page.evaluate(tops) == places  # nothing jumps
    assert page.is_disabled("#clear") and page.evaluate("document.activeElement.id") == "pad"
    assert len(pixels_of(page, "#pad").unique(dim=0)) == len(pixels_of(page, "#image").unique(dim=0)) == 1
    assert page.inner_text("#error") == "–" and page.is_disabled("#play") and page.is_disabled("#dial")
    assert page.locator("#sum button:visible").count() == 0
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert look(page)["input"] == digit and page.is_disabled("#undo")


def test_a_drawing_is_fitted_as_mnists_digits_are(visit):
    page = visit()
    draw(page, (0.1, 0.1), (0.9, 0.1), (0.9, 0.95))  # a 7 whose centre of mass lies in a corner
    image = look(page)["input"]
    edge = torch.tensor(image).view(28, 28)[[0, -1]].sum() + torch.tensor(image).view(28, 28)[:, [0, -1]].sum()
    assert max(extent(image)) >= 19 and edge < 0.5  # no ink is lost
    page.click("#clear")
    draw(page, (0.1, 0.1), (0.2, 0.4), (0.12, 0.4))
    image = look(page)["input"]
    height, width = extent(image)
    assert 19 <= height <= 21 and width < 16
    for axis in (0, 1):  # counted from 0, the middle is pixel 14, as in MNIST
        ink = torch.tensor(image).view(28, 28).sum(1 - axis)
        assert (ink * torch.arange(28)).sum() / ink.sum() == pytest.approx(14, abs=0.3)


BRING = """([kind, paper, ink]) => new Promise(done => {
    const sheet = document.createElement("canvas"), context = sheet.getContext("2d");
    [sheet.width, sheet.height] = [300, 200];
    context.fillStyle = paper;
    context.fillRect(0, 0, 300, 200);
    context.fillStyle = ink;
    context.fillRect(140, 30, 20, 140);
    sheet.toBlob(blob => {
        const data = new DataTransfer();
        data.items.add(new File([ink === "" ? "no image" : blob], "one.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
        const event = kind === "drop" ? new DragEvent(kind, options) : new ClipboardEvent(kind, options);
        document.body.dispatchEvent(event);
        done(event.defaultPrevented);
    });
})"""


def test_an_image_is_dropped_or_pasted(visit):
    """Dark on light or light on dark, it becomes the drawing; undo has the one before."""
    page = visit()
    before = look(page)["input"]
    for kind, paper, ink in (("drop", "#eee", "#222"), ("paste", "#113", "#fd8")):
        assert page.evaluate(BRING, [kind, paper, ink]) == (kind == "drop")  # the browser does not open it
        wait(page, "old => explorer.view.input.some((v, i) => v !== old[i])", arg=before)
        image = look(page)["input"]
        height, width = extent(image)
        assert 19 <= height <= 21 and 2 <= width <= 4 and torch.tensor(image).view(28, 28)[:, :8].max() < 0.1
        page.click("#undo")
        assert look(page)["input"] == before
    page.evaluate(BRING, ["drop", "#fff", ""])
    wait(page, "message.textContent")
    assert "one.png" in page.inner_text("#message") and look(page)["input"] == before


@torch.no_grad()
def test_noise_is_in_what_the_model_sees_and_not_in_the_error(visit, digits):
    page = visit("sparse_ksparse_k25?digit=0")
    slide(page, "#noise", 0.4)
    view = look(page)
    noise = torch.tensor(view["input"]) - digits[0]
    assert 0.05 < noise.square().mean() < 0.11 and 0 <= min(view["input"]) <= max(view["input"]) <= 1
    redrawn = common.load_pretrained("sparse_ksparse_k25")(torch.tensor(view["input"])[None])[0][0]
    assert view["error"] == pytest.approx((redrawn - digits[0]).square().mean().item(), rel=1e-3)
    assert f"{noise.square().mean():.4f}" in page.inner_text("#noise-note")
    slide(page, "#noise", 0)
    assert torch.tensor(look(page)["input"]).equal(digits[0])


# The sum


def test_a_unit_is_turned_and_pointed_at(visit):
    page = visit()
    whole, unit = look(page), int(tile(page).get_attribute("data-unit"))
    tile(page).click()
    assert look(page)["image"] == whole["image"] and tile(page).get_attribute("aria-pressed") == "true"
    page.click("#off")
    less = look(page)
    assert less["error"] > whole["error"] and less["whole"][unit] == 0 and "× 0 " in page.inner_text("#dial-note")
    tile(page, 1).click()
    assert look(page)["image"] == less["image"]  # the first stays off
    tile(page, 0).click()
    page.evaluate(SETTLED)
    page.click("#off")
    assert look(page)["image"] == whole["image"]
    turn(page, 2, 3)
    more, unit = look(page), whole["terms"][2]
    assert more["terms"] == whole["terms"] and more["whole"][unit] == pytest.approx(3 * whole["code"][unit], rel=1e-3)
    page.click("#reset")
    assert look(page)["image"] == whole["image"]

    grey = pixels_of(page, "#image")
    tile(page, 2).hover()
    page.evaluate(SETTLED)
    assert (grey - pixels_of(page, "#image")).abs().sum(dim=1).gt(60).sum() > 10
    page.mouse.move(1, 1)
    page.evaluate(SETTLED)
    assert pixels_of(page, "#image").equal(grey)
    page.check("#difference")  # too much ink is darker than the ground, too little brighter
    view = look(page)
    away = torch.tensor(view["image"]) - torch.tensor(view["input"])
    shades = pixels_of(page, "#image").float().mean(dim=1)
    assert shades[away > 0.15].max() < shades[away.abs() < 0.01].median() < shades[away < -0.15].min()


def test_the_sum_has_all_terms_and_a_curve_of_its_errors(visit):
    page = visit("sparse_l1", viewport=(800, 1000))
    count, tiles = look(page)["count"], page.locator("#sum [data-unit]:visible")
    first = tiles.count()
    assert page.inner_text("#rest") == f"+ {count - first} more"
    last, errors = int(page.get_attribute("#kept", "max")), []
    for position in (0, 10, 25, last):
        slide(page, "#kept", position)
        view = look(page)
        errors.append(view["error"])
        assert view["curve"][position] == pytest.approx(view["error"])
    assert errors == sorted(errors, reverse=True) and errors[0] > 10 * errors[-1]
    assert len(page.get_attribute("#curve-line", "points").split()) == last + 1
    page.click("#rest")
    page.evaluate(SETTLED)
    assert tiles.count() == count > first
    slide(page, "#kept", 20)
    assert page.locator("#sum .left-out").count() == count - 20


def test_the_sum_is_played(visit):
    page = visit("sparse_ksparse_k5", reduced_motion="no-preference")  # alone, since a clock is its whole context's
    whole = look(page)["image"]
    page.clock.install()
    for motion in ("no-preference", "reduce"):
        page.emulate_media(reduced_motion=motion)
        page.click("#play")
        seen = [look(page)["kept"]]
        while page.evaluate("explorer.state.isPlaying") and len(seen) < 30:
            page.clock.fast_forward(300)
            seen.append(look(page)["kept"])
        seen.append(look(page)["kept"])
        assert seen == sorted(seen) and seen[0] < 1 and seen[-1] == 5 and look(page)["image"] == whole
        assert all(kept == int(kept) for kept in seen) == (motion == "reduce") and len(seen) > 5
    page.click("#play")
    page.clock.fast_forward(700)
    page.click("#play")
    kept = look(page)["kept"]
    page.clock.fast_forward(2000)
    assert 0 < kept < 5 and look(page)["kept"] == kept
    page.click("#play")
    draw(page, (0.3, 0.3), (0.6, 0.6))
    assert not page.evaluate("explorer.state.isPlaying")  # who draws, does not play


# What a unit stands for


def test_all_units_and_their_orders(visit):
    page = visit("sparse_kl/14")
    open_part(page, "#all")
    model = common.load_pretrained("sparse_kl")
    norms = model.dictionary.norm(dim=1)
    frequency, rest, largest = (
        torch.tensor(values_of(page, f"explorer.model.{key}")) for key in ("frequency", "medianCode", "strongestCode")
    )
    digits = torch.tensor(values_of(page, "explorer.model.digits")).view(10, -1)
    keys = {
        "likeness": -(model.dictionary @ model.dictionary[14]) / norms / norms[14],  # first: it is to the chosen unit
        "digit": digits.argmax(dim=0) * 1000.0 - digits.amax(dim=0),
        "size": -(largest.view(-1, 12)[:, 0] - rest) * norms,
        "frequency": -frequency,
    }
    for order, key in keys.items():
        page.select_option("#order", order)
        page.locator("#groups").focus()
        found = []
        for pressed in ("Home", "ArrowRight", "End"):
            page.keyboard.press(pressed)
            page.evaluate(SETTLED)
            found.append(shown_unit(page))
        assert torch.allclose(key[found], key.sort().values[[0, 1, 511]], atol=1e-3), order

    columns = page.evaluate("Math.floor(groups.clientWidth / 40)")
    by_frequency = frequency.sort(descending=True).values
    for pressed in ("Home", "ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp"):
        page.keyboard.press(pressed)
        page.evaluate(SETTLED)
    assert frequency[shown_unit(page)] == by_frequency[columns + 1]
    page.locator("#groups canvas").click(position={"x": 40 * 5 + 15, "y": 40 * 2 + 15})
    page.evaluate(SETTLED)
    assert frequency[shown_unit(page)] == by_frequency[2 * columns + 5]
    mark, canvas = (page.locator(f"#groups {kind}").first.bounding_box() for kind in (".mark", "canvas"))
    assert mark["x"] - canvas["x"] == pytest.approx(200, abs=1) and mark["y"] - canvas["y"] == pytest.approx(80, abs=1)


@pytest.mark.parametrize(
    "name, bias, is_dead", [("sparse_l1", -1, True), ("sparse_kl", -1, False), ("sparse_kl", -300, True)]
)
def test_a_dead_unit_is_crossed_out_and_has_no_images(visit, small, folder, name, bias, is_dead):
    """A sigmoid's is dead where it rounds to 0; one that is only never active is not."""
    model = METHODS[name].train(small, hidden=16)
    model.encoder.weight[3], model.encoder.bias[3], model.dictionary[3] = 0, bias, 0
    assert common.evaluate(model, small.test_images).is_dead[3] == is_dead
    write.write_model(model, small, folder)
    page = visit(f"{quote(model.name)}/3", folder)
    wait(page, "explorer.testImages")
    open_part(page, "#all")
    page.select_option("#order", "likeness")  # the first is unit 3 itself
    page.evaluate(SETTLED)
    note = "Dead: its code is 0 on every test image." if is_dead else "Active on no test image."
    assert note in page.inner_text("#unit-note") and page.is_disabled("#dial")
    assert page.locator("#histogram:visible, #bars:visible, #strongest button:visible").count() == 0
    middle = page.locator("#groups canvas").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(15, 15, 1, 1).data].slice(0, 3)"
    )
    assert (sum(middle) < 120) == is_dead  # of a black cross
    page.select_option("#order", "digit")
    page.evaluate(SETTLED)
    assert ("dead" in page.inner_text("#groups")) == is_dead


# Addresses


def test_an_address_shows_the_same_elsewhere(visit, data):
    page = visit("sparse_ksparse_k25/359")
    assert shown_unit(page) == 359
    press_digit(page, 9)
    slide(page, "#k", 16)
    slide(page, "#kept", 12)
    turn(page, 2, 2.5)
    view, unit = look(page), shown_unit(page)
    page.wait_for_function("/k=17.*turned/.test(location.hash)")
    again = visit(page.url.partition("#")[2])
    assert look(again)["image"] == view["image"] and shown_unit(again) == unit
    assert pressed_digit(again) == "9" and view["active"] == 17 and view["kept"] == 12
    go(page, "sparse_kl?test=4321")
    wait(page, "explorer.model?.name === 'sparse_kl' && explorer.state.given.test === 4321")
    assert torch.tensor(look(page)["input"]).equal(common.to_float(data.test_images[4321]))


def test_an_address_that_cannot_be_followed(visit):
    page = visit("sparse_kl")
    for address in ("sparse_kl/512", "sparse_kl/x", "../sparse_l1", "<b>x</b>", "https://example.org/x"):
        go(page, address)
        wait(page, "message.textContent")
        choose_model(page, "sparse_l1")
        wait(page, "!message.textContent && explorer.view")
        choose_model(page, "sparse_kl")
    go(page, "sparse_kl/7?k=x&kept=-2&digit=77&turned=9999:1,3:9,a,:&test=1e9&nothing")
    wait(page, "explorer.state.unit === 7")
    view = look(page)
    assert view["kept"] == view["count"] and view["whole"] == view["code"] and not page.is_visible("#message")


# Keyboard, eyes, fingers, small screens


def test_a_finger_draws_and_chooses(visit):
    page = visit(has_touch=True, viewport=(360, 740))
    before = look(page)
    box = page.locator("#pad").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    view = look(page)
    assert view["input"] != before["input"] and page.evaluate("getComputedStyle(pad).touchAction") == "none"
    tile(page, 2).tap()
    assert look(page)["image"] == view["image"] and shown_unit(page) == view["terms"][2]
    page.tap("#off")
    assert look(page)["image"] != view["image"]
    page.tap("#close")
    page.evaluate(SETTLED)
    assert not page.is_visible("#card")


def test_by_keyboard_alone(visit):
    page = visit()
    wait(page, "explorer.testImages")
    open_part(page, "details")
    reached = []
    while reached[-1:] != ["groups"] and len(reached) < 60:
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            """() => { const e = document.activeElement;
                       return [e.id || e.ariaLabel || e.tagName, getComputedStyle(e).outlineStyle]; }"""
        )
        assert outline == "solid", where
        reached.append(where)
    controls = {"pad", "clear", "k", "noise", "save", "play", "kept", "dial", "off", "order", "groups"}
    assert controls | {f"Test digit {digit}" for digit in range(10)} <= set(reached)
    for kind, count in (("Unit ", 1), ("Test image ", 1), (("L1", "KL", "k-sparse"), 7)):
        assert sum(where.startswith(kind) for where in reached) == count  # arrow keys go on among units and images

    tile(page, 0).focus()
    page.keyboard.press("ArrowRight")
    whole = look(page)
    columns = page.evaluate("getComputedStyle(sum).gridTemplateColumns.split(' ').length")
    page.keyboard.press("ArrowDown")
    page.evaluate(SETTLED)
    assert shown_unit(page) == whole["terms"][1 + columns]
    page.keyboard.press("x")
    assert look(page)["whole"][shown_unit(page)] == 0
    page.wait_for_function(f"spoken.textContent.includes('Unit {shown_unit(page)} off')")
    page.keyboard.press("x")
    assert look(page)["image"] == whole["image"]
    page.locator("#strongest button").first.focus()
    for key in ("ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.evaluate(SETTLED)
    assert page.locator("#strongest button").nth(1).get_attribute("aria-pressed") == "true"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=img], [role=application], [role=group]")]
            .filter(element => !element.closest("[hidden]"))
            .filter(element => !(element.ariaLabel || element.labels?.length || element.textContent.trim()
                || element.getAttribute("aria-labelledby")))
            .map(element => element.outerHTML)"""
    )
    assert nameless == []


def test_the_pad_by_keyboard(visit):
    page = visit()
    page.locator("#clear").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "pad" and page.is_visible("#brush")
    page.keyboard.press("7")
    page.evaluate(SETTLED)
    assert pressed_digit(page) == "7"
    for key in ("ArrowUp", "ArrowUp", " ", *["ArrowDown"] * 12, " ", *["ArrowRight"] * 3):
        page.keyboard.press(key)
    height, width = extent(look(page)["input"])
    assert height >= 18 and width <= 5  # a stroke downwards; the brush was up when it moved to the right
    page.keyboard.press("Control+z")
    page.evaluate(SETTLED)
    assert pressed_digit(page) == "7"
    page.keyboard.press(" ")
    page.keyboard.press("3")  # it lifts a brush that was down
    before = look(page)["input"]
    page.keyboard.press("ArrowRight")
    assert look(page)["input"] == before and pressed_digit(page) == "3"


CONTRASTS = """() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = colour => numbers(colour).slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, channel) => sum + part * [0.2126, 0.7152, 0.0722][channel], 0);
    const behind = element => {
        const colour = getComputedStyle(element).backgroundColor, opaque = (numbers(colour)[3] ?? 1) > 0;
        return opaque || !element.parentElement ? colour : behind(element.parentElement);
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const pairs = [];
    for (const element of document.querySelectorAll("main *")) {
        const style = getComputedStyle(element), text = element.outerHTML.slice(0, 80);
        const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!element.getClientRects().length || element.matches("noscript, option, button:disabled")) continue;
        const colour = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
        if (hasText) pairs.push([text, contrast(luminance(colour), luminance(behind(element))) / 4.5]);
        if (element.matches("button, select, #pad, #curve")) {
            pairs.push([text, contrast(luminance(style.borderTopColor), luminance(behind(element.parentElement))) / 3]);
        }
    }
    return pairs;
}"""


def test_all_is_seen_in_light_dark_print_and_forced_colours(visit):
    page = visit("sparse_l1")
    turn(page, 0, 0)
    open_part(page, "details")
    go(page, "sparse_l1/512")
    wait(page, "message.textContent")
    backgrounds = []
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"color_scheme": "dark", "media": "print"}):
        page.emulate_media(**options)
        page.evaluate(SETTLED)
        pairs = page.evaluate(CONTRASTS)
        assert len(pairs) > 40 and [pair for pair in pairs if pair[1] < 1] == [], options
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        backgrounds.append(sum(int(part) for part in re.findall(r"\d+", colour)) > 380)
    assert backgrounds == [True, False, True]

    page.emulate_media(media="screen", color_scheme="light", forced_colors="active")
    tile(page).click()
    page.evaluate(SETTLED)
    style = "element => getComputedStyle(element).outlineStyle"
    assert tile(page).evaluate(style) == page.locator("#digits [aria-pressed=true]").evaluate(style) == "solid"
    assert tile(page, 1).evaluate(style) == "none"
    assert page.locator("#bars i").first.evaluate("bar => getComputedStyle(bar).backgroundImage") != "none"


# Files


def test_what_is_missing_or_damaged_is_said_in_a_line(visit, folder):
    shutil.copy(model_file(EXPLORE, "sparse_l1"), folder / "models")
    model_file(folder, "sparse_kl").write_bytes(model_file(EXPLORE, "sparse_kl").read_bytes()[:100_000])
    (folder / "images_MNIST.js").unlink()
    page = visit("", folder)
    assert FIRST in page.inner_text("#message") and page.inner_text("#error") == "–"
    draw(page, (0.3, 0.3), (0.7, 0.7))  # one can draw all the same, and choose another
    page.evaluate(SETTLED)
    assert painted_image(page, "#input").max() > 0.9 and page.is_disabled("#kept")
    go(page, "sparse_kl")
    wait(page, "message.textContent.includes('sparse_kl.js')")
    choose_model(page, "sparse_l1")
    wait(page, "explorer.view && document.querySelector('#no-examples').textContent.includes('images_MNIST.js')")
    assert page.is_visible("#no-examples") and not page.is_visible("#strongest")
    assert not page.is_visible("#message") and look(page)["active"] > 0


def test_a_model_that_is_chosen_while_another_loads_is_the_one_that_is_shown(visit):
    page, held = visit("sparse_l1"), []
    page.route("**/sparse_kl.js", lambda route: held.append(route))
    page.reload(wait_until="commit")  # what is open already is not held
    wait(page, "globalThis.explorer?.view")
    go(page, "sparse_kl")
    wait(page, "/Loading KL/.test(document.querySelector('#code-note').textContent)")
    assert pressed_models(page) == ["sparse_kl"]
    go(page, "sparse_l1/3")
    wait(page, "explorer.state.name === 'sparse_l1' && explorer.state.unit === 3")
    with page.expect_request_finished(lambda request: "sparse_kl" in request.url):
        held[0].continue_()
    press_digit(page, 3)
    assert look(page)["active"] > 0 and page.evaluate("explorer.model.name") == "sparse_l1" and shown_unit(page) == 3
    choose_model(page, "sparse_kl")
    assert pressed_models(page) == ["sparse_kl"] and look(page)["active"] > 25


# Models and data sets of one's own


L1, KSPARSE = METHODS["sparse_l1"].cls, METHODS["sparse_ksparse"].cls


class Linear(L1):
    """Its output may be below 0 and above 1, and its units are active above another threshold."""

    active_above = 0.25
    loss_name = "MSE"

    def squash(self, output):
        return output

    def reconstruction_loss(self, output, images):
        return (output - images).square().mean()


class Tanh(L1):
    """What no page has heard of."""

    def activation(self, hidden):
        return hidden.tanh()


@pytest.fixture
def write_own(small, folder):
    """write_own(cls, name, data=..., ...): a trained model of a class, which is put into the page in `folder`."""

    def write_own(cls, name, data=small, hidden=16, **more):
        model = cls(dataset=data.name, hidden=hidden, epochs=2, batch_size=100, precision="float32", **more)
        with torch.enable_grad():
            methods.trained(model, data).name = name
        write.write_model(model, data, folder)
        return model

    return write_own


@torch.no_grad()
def test_models_of_ones_own_are_shown_as_python_has_them(visit, write_own, digits, folder):
    """Methods of one's own, whose output may be outside 0 and 1, and codes of which the median is not 0."""
    models = [
        write_own(L1, "own"),
        write_own(Linear, "own 10"),
        write_own(Linear, "own 9"),
        write_own(KSPARSE, "sparse_ksparse_k1", hidden=4, k=1),
        write_own(KSPARSE, "sparse_ksparse_k100", hidden=300, k=100),
    ]
    page = visit("own", folder)
    assert listed_models(page) == [*NAMES, "own", "own 9", "own 10", "sparse_ksparse_k1"]  # k = 100 is a shipped name
    for model in models:
        choose_model(page, model.name)
        for digit in (1, 8):
            press_digit(page, digit)
            view = look(page)
            image, code = (values[0] for values in model(digits[digit : digit + 1]))
            assert torch.allclose(torch.tensor(view["code"], dtype=torch.float32), code, atol=2e-3)
            assert torch.allclose(torch.tensor(view["image"], dtype=torch.float32), image, atol=2e-3)
            assert view["error"] == pytest.approx((image - digits[digit]).square().mean().item(), rel=2e-3)
            assert view["active"] == (code > model.active_above).sum()
    assert view["count"] > 100  # units whose code is not their median


def test_a_models_name_may_be_of_any_letters(visit, write_own, folder):
    write_own(L1, "own")
    content = content_of(folder, "own")
    names = ["2026-11-25T10:00", "images_MNIST", "my own sparse_l1 ü 0.001", "cost_$5 #3 100%25", "<i>'\"&?"]
    for name in names:
        write.write_script(model_file(folder, name), {**content, "name": name})
    write.write_script(folder / "own.js", [*names, "sparse_kl"])
    page = visit(quote(names[0]), folder)
    assert sorted(listed_models(page)) == sorted([*NAMES, *names])
    for name in names:
        go(page, quote(name))
        wait(page, "name => explorer.model?.name === name", arg=name)
        assert pressed_models(page) == [name] and look(page)["input"]


def test_labels_that_lack_some_digits(visit, write_own, small, digits, folder):
    is_there = small.test_labels % 5 != 1
    few = small._replace(test_images=small.test_images[is_there], test_labels=small.test_labels[is_there])
    write_own(L1, "own", few)
    page = visit("own", folder)
    assert page.locator("#digits button:disabled").all_inner_texts() == ["1", "6"] and pressed_digit(page) == "3"
    press_digit(page, 7)
    assert torch.tensor(look(page)["input"]).equal(digits[7])
    assert page.is_visible("#bars") and "1, 6" in page.inner_text("#bars-note")


def test_another_data_set(visit, write_own, small, folder):
    """MNIST upside down, without labels, and with more images than two bytes with a sign can count."""
    turned = small.test_images.view(-1, 28, 28).flip(1).reshape(-1, 784)
    images = torch.cat([turned[:100], torch.zeros(32_700, 784, dtype=torch.uint8), turned[100:]])
    write_own(L1, "upright")
    model = write_own(L1, "turned", small._replace(test_images=images, test_labels=None, name="upside-down"))
    page = visit("turned", folder)
    wait(page, "explorer.testImages")
    press_digit(page, 4)
    assert torch.tensor(look(page)["input"]).equal(common.to_float(images[4]))
    assert page.is_hidden("#bars")
    open_part(page, "#all")
    assert page.locator("#order option:disabled").get_attribute("value") == "digit"
    numbers = common.evaluate(model, images).code.max(dim=0).indices
    unit = numbers.argmax().item()
    assert numbers[unit] > 32_767
    go(page, f"turned/{unit}")
    wait(page, "unit => explorer.state.unit === unit", arg=unit)
    page.locator("#strongest button").first.click()
    assert torch.tensor(look(page)["input"]).equal(common.to_float(images[numbers[unit]]))

    choose_model(page, "upright")  # its test digit takes the place of an image that it is not made for
    test_digit = torch.tensor(look(page)["input"])
    assert any(test_digit.equal(common.to_float(image)) for image in small.test_images)


def test_a_model_that_the_page_cannot_show(write_own, folder):
    with pytest.raises(common.UserError, match="^the page cannot show own: its activation is none of "):
        write_own(Tanh, "own")
    assert not model_file(folder, "own").exists()


@torch.no_grad()
def test_functions_that_the_images_do_not_tell_apart(digits):
    """An output between 0 and 1 is the same when it is cut; and where few units are above 0, k does not matter."""
    model = METHODS["sparse_ksparse"].build(hidden=8, k=3).eval().requires_grad_(False)
    model.encoder.bias.fill_(-5)
    assert write.functions_of_page(model, digits) == {"activation": "top_k", "k": 3, "squash": "clip"}


# On one screen

# Of some elements, those that are not wholly in the window, or that something covers.
UNSEEN = """all => all.filter(selector => {
    const element = document.querySelector(selector), box = element.getBoundingClientRect();
    const isInside = box.left > -1 && box.top > -1 && box.right < innerWidth + 1 && box.bottom < innerHeight + 1;
    return !isInside || [[0.1, 0.1], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.9, 0.9]].some(([x, y]) =>
        !element.contains(document.elementFromPoint(box.left + x * box.width, box.top + y * box.height)));
})"""
OUTSIDE = """() => [...document.querySelectorAll("main *:not(#spoken)")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width && (box.left < 0 || box.right > innerWidth + 0.5);
}).map(element => element.outerHTML.slice(0, 80))"""
SMALL = """() => [...document.querySelectorAll("button, select, summary, input[type=range]")]
    .map(element => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
    .filter(([_, { width, height }]) => width && (width < 40 || height < 40)).map(([text]) => text)"""
REDRAWING = ["#image", "#error"]


@pytest.mark.parametrize(
    "size", [(1400, 900), (1280, 720), (1024, 768), (800, 1000), (700, 450), (740, 360), (360, 740), (390, 844)]
)
def test_the_redrawing_is_in_sight_of_all_that_changes_it(visit, size):
    page = visit(viewport=size)
    assert page.evaluate(UNSEEN, ["#pad", "#play", "#kept", *REDRAWING]) == []
    if size[0] >= 1280:
        assert page.evaluate(UNSEEN, ["#k", "#noise", "#dial", "#models > :last-child"]) == []

    tops = "['sum', 'models'].map(id => document.getElementById(id).getBoundingClientRect().top)"
    before = page.evaluate(tops)
    for position in (0, 9, 10, page.get_attribute("#kept", "max")):
        slide(page, "#kept", position)
        assert page.evaluate(tops) == before  # nothing moves under the finger

    open_part(page, "#all")
    first, last = "#models > :first-child", "#models > :last-child"
    for control in ("#play", "#kept", "#k", "#noise", "#sum button", first, last, "#difference", "#order"):
        for block in ("nearest", "center", "start"):
            page.locator(control).first.evaluate("(element, block) => element.scrollIntoView({ block })", block)
            assert page.evaluate(UNSEEN, [control, *REDRAWING]) == [], control

    for index in (0, 5):
        tile(page, index).evaluate("tile => { tile.scrollIntoView({ block: 'nearest' }); tile.click(); }")
        page.evaluate(SETTLED)
        assert page.evaluate(UNSEEN, ["#dial", "#off", *REDRAWING]) == []
    pixels = pixels_of(page, "#image")
    slide(page, "#dial", 3)
    assert not pixels_of(page, "#image").equal(pixels)
    for top in (0, 1e6):
        page.evaluate("top => scrollTo(0, top)", top)
        assert page.evaluate(UNSEEN, ["#dial", "#off", *REDRAWING]) == []

    for text in ("100%", "200%"):
        page.evaluate("size => { document.documentElement.style.fontSize = size; }", text)
        page.evaluate(SETTLED)
        assert page.evaluate(OUTSIDE) == [] and page.evaluate(SMALL) == [], text


# Behaviour


def test_a_model_that_was_written_anew_is_shown_although_the_server_lets_files_be_kept(browser, folder):
    class Lasting(SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cache-Control", "max-age=86400")
            super().end_headers()

        def log_message(self, *arguments):
            pass

    def write_own_model(mse, changed_at):
        content = {**content_of(ROOT / "explore", "sparse_ksparse_k5"), "name": "own", "mse": mse}
        model_file(folder, "own").write_text(f"explore({json.dumps(content)});\n")
        os.utime(model_file(folder, "own"), (changed_at, changed_at))

    (folder / "own.js").write_text('explore(["own", "sparse_l1"]);\n')
    write_own_model(0.5, changed_at=1e9)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Lasting, directory=folder)) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/#own")
            wait(page, "explorer.view")
            assert page.inner_text("#typical").endswith(" 0.5000")
            names = page.locator("#models button").evaluate_all("tiles => tiles.map(tile => tile.dataset.name)")
            assert names == [*NAMES, "own"]
            write_own_model(0.25, changed_at=1.1e9)
            page.reload()
            wait(page, "explorer.view")
            assert page.inner_text("#typical").endswith(" 0.2500")
            page.close()
        finally:
            server.shutdown()


def test_a_new_drawing_begins_anew(visit):
    page = visit()

    def choose():
        turn(page, 1, -1)
        slide(page, "#kept", 4)

    def chosen():
        look(page)
        return page.evaluate("[explorer.view.kept, explorer.state.turned.size]")

    for begin in (
        lambda: draw(page, (0.5, 0.2), (0.5, 0.8)),
        lambda: press_digit(page, 3),
        lambda: page.click("#clear") or draw(page, (0.3, 0.3), (0.7, 0.7)),
    ):
        choose()
        assert chosen() == [4, 1]
        begin()
        assert chosen() == [25, 0]
    page.click("#undo")
    page.click("#undo")
    assert chosen() == [4, 1] and pressed_digit(page) == "3"  # as it was
    draw(page, (0.5, 0.2), (0.5, 0.8))
    choose()
    draw(page, (0.3, 0.5), (0.7, 0.5))  # the same drawing
    assert chosen() == [4, 1]
    page.click("#undo")
    assert chosen() == [4, 1]


def test_the_saved_picture_has_all_that_is_kept(visit):
    def pictures_in(page):
        with page.expect_download() as download:
            page.locator("#save").evaluate("button => button.click()")
        image = np.array(Image.open(download.value.path()).convert("L"))[64:]  # beneath two lines of text
        rows, columns = len(image) // 200, image.shape[1] // 156
        cells = [image[200 * row + 40 : 200 * row + 160, 156 * column + 30 : 156 * column + 140]
                 for row in range(rows) for column in range(columns)]  # fmt: skip
        return sum((cell < 250).any() for cell in cells)

    page = visit("sparse_l1?digit=8")
    count = look(page)["count"]
    assert count > 100 and pictures_in(page) == 3 + count  # input, redrawing, and the average
    page = visit("sparse_ksparse_k25?digit=2&kept=4&turned=359:2,801:0")
    assert pictures_in(page) == 3 + 4 + 2


def test_an_address_holds_the_drawing_and_all_that_was_chosen(visit):
    page = visit()
    draw(page, (0.3, 0.2), (0.7, 0.2), (0.4, 0.85))
    slide(page, "#noise", 0.3)
    slide(page, "#k", 29)
    turn(page, 1, 2)
    slide(page, "#kept", 9)
    ours = look(page)
    wait(page, "location.hash.includes('kept=9')")
    address = page.url.partition("#")[2]
    again = visit(address)
    theirs = look(again)
    assert theirs["active"] == ours["active"] > 25 and theirs["kept"] == 9 and len(address) < 650
    for key in ("clean", "input", "code", "whole", "image", "error"):
        assert theirs[key] == ours[key], key
    draw(again, (0.5, 0.6), (0.7, 0.6))  # one can go on with it
    assert sum(look(again)["clean"]) > sum(ours["clean"]) and look(again)["kept"] == 9

    page = visit("nobody/3?digit=4")
    assert "no model nobody" in page.inner_text("#message") and FIRST == page.evaluate("explorer.model.name")
    assert pressed_digit(page) == "4"
    press_digit(page, 5)
    look(page)
    assert not page.is_visible("#message")


@pytest.mark.parametrize(("paper", "ink"), [((235, 230, 220), (40, 50, 130)), ((40, 65, 50), (215, 225, 215))])
def test_a_photograph_in_uneven_light(visit, paper, ink):
    page, (y, x) = visit(), np.mgrid[0:900, 0:1200] / 900
    strokes = Image.new("L", (1200, 900))
    ImageDraw.Draw(strokes).line([(500, 300), (720, 300), (560, 650)], fill=255, width=30, joint="curve")
    shadow = 1 - 0.5 / (1 + np.exp((0.7 - x + 0.2 * y) / 0.02))
    noise = np.random.default_rng(0).normal(0, 6, (900, 1200, 1))

    def take(light):
        colours = np.array(paper) + np.asarray(strokes)[..., None] / 255 * (np.array(ink) - paper)
        file = io.BytesIO()
        Image.fromarray((colours * light[..., None] + noise).clip(0, 255).astype(np.uint8)).save(file, "jpeg")
        before = look(page)["clean"]
        page.set_input_files("#file", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
        wait(page, "before => explorer.view.clean.some((value, pixel) => value !== before[pixel])", arg=before)
        return torch.tensor(look(page)["clean"])

    even = take(np.ones((900, 1200)))
    press_digit(page, 2)
    uneven = take(shadow * (1 - 0.6 * x / x.max()))
    digit, drawn = strokes.crop(strokes.getbbox()), Image.new("L", (28, 28))
    digit.thumbnail((20, 20))
    drawn.paste(digit, (4, 4))
    places = [np.roll(drawn, (dy, dx), (0, 1)) for dy in range(-4, 5) for dx in range(-4, 5)]
    likeness = np.corrcoef([even.numpy(), uneven.numpy(), *(place.ravel() for place in places)])
    assert likeness[0, 1] > 0.8 and likeness[0, 2:].max() > 0.8, likeness[0]
    page.click("#erase")
    draw(page, (0, 0.3), (1, 0.3))  # what is left over is mended by hand
    assert look(page)["clean"] != uneven.tolist()
    page.click("#undo")
    assert look(page)["clean"] == uneven.tolist()

    page.evaluate(  # as browsers do against being recognised
        """() => { CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) =>
            ({ data: Uint8ClampedArray.from({ length: 4 * width * height }, () => 255 * Math.random()) }); }"""
    )
    page.set_input_files("#file", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": b""})
    wait(page, "message.textContent.includes('random pixels')")


def test_a_model_of_other_data_takes_the_sheet_as_it_is(visit, folder):
    shutil.copy(model_file(ROOT / "explore", FIRST), model_file(folder, FIRST))
    content = {**content_of(ROOT / "explore", "sparse_ksparse_k5"), "name": "own", "dataset": "other"}
    model_file(folder, "own").write_text(f"explore({json.dumps(content)});\n")
    (folder / "own.js").write_text('explore(["own"]);\n')
    page = visit("own", folder)
    draw(page, (0.1, 0.1), (0.1, 0.4))
    image = torch.tensor(look(page)["clean"]).view(28, 28)
    assert image.sum() > 0 and image[14:].sum() + image[:, 7:].sum() == 0
    choose_model(page, FIRST)
    assert torch.tensor(look(page)["clean"]).view(28, 28)[14:].sum() > 0


def test_keys_turns_and_what_is_dropped(visit):
    page = visit()
    page.locator("#kept").focus()
    page.keyboard.press("7")
    look(page)
    assert pressed_digit(page) == "7"
    turn(page, 0, -1)
    unit = page.evaluate("explorer.state.unit")
    for turned in ([[unit, 0]], []):  # off, and back
        page.click("#off")
        look(page)
        assert page.evaluate("[...explorer.state.turned]") == turned
    page.evaluate("() => { explorer.state.kept = 3.6; }")  # as in the midst of playing
    page.locator("#difference").check()
    look(page)
    assert page.locator("#sum button[data-unit]:not(.left-out):visible").count() == 3
    assert page.inner_text("#kept-count") == "3 of 25"
    assert page.evaluate("!pad.dispatchEvent(new MouseEvent('contextmenu', { cancelable: true }))")
    page.evaluate(
        """() => { const data = new DataTransfer(); data.setData("text/uri-list", "https://example.org/x.png");
                   document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: data })); }"""
    )
    assert "no file" in page.inner_text("#message")
