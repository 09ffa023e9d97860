"""The page, outputs/shipped/explore/, in a real browser, mostly opened from disk, against what Python says of the same
images."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
import torch
from conftest import METHODS, ROOT

import common

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")

SHIPPED_PAGE = ROOT / "outputs" / "shipped" / "explore"
FIRST = "sparse_ksparse_k25"  # what the page shows when its address names no model
NAMES = ("sparse_l1", "sparse_kl", *(f"sparse_ksparse_k{k}" for k in (5, 10, 25, 50, 100)))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium or google-chrome")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages():
    """The pages of the shipped models that stay open, since loading one takes a second: one for a mouse, by False, and
    one for fingers, by True."""
    return {}


@pytest.fixture(scope="module")
def faults():
    """What pages have said in the console, raised, and asked for besides files."""
    return []


RENEW = """address => {
    for (let i = 0; i < 101; i++) undo.click();
    fit.checked = true;
    order.value = "frequency";
    order.dispatchEvent(new Event("change"));
    document.activeElement.blur();
    explorer.state.off.clear();
    Object.assign(explorer.state, { kept: Infinity, k: explorer.model?.k ?? null, unit: null });
    document.querySelector("#all").scrollTop = 0;
    scrollTo(0, 0);
    spoken.textContent = "";
    location.replace(address);
    fit.dispatchEvent(new Event("change"));
}"""


@pytest.fixture
def visit(browser, pages, faults):
    """visit(address, folder=..., ...): the page as it is when it has been opened, from a folder, or from a `server`. A
    page of the shipped models that is open already is put back to that, unless it has to be `fresh`. Afterwards: it has
    said nothing in the console, raised nothing, and asked for nothing but files, or what that server has. A missing
    file is the one thing of which a browser always tells the console."""
    contexts, allowed = [], []
    faults.clear()

    def visit(
        address="",
        folder=SHIPPED_PAGE,
        missing=(),
        server=None,
        fresh=False,
        has_touch=False,
        viewport=(1200, 900),
        **media,
    ):
        allowed.extend(f"{file} net::ERR_FILE_NOT_FOUND" for file in missing)
        size, stays = {"width": viewport[0], "height": viewport[1]}, folder == SHIPPED_PAGE and not (server or fresh)
        media = {"color_scheme": "light", "forced_colors": "none", **media}
        if not stays or has_touch not in pages:
            context = browser.new_context(viewport=size, has_touch=has_touch, **media)
            page = open_page(context, server or (folder / "index.html").as_uri(), address)
            if not stays:
                contexts.append(context)
                return page
            pages[has_touch] = page
        page = pages[has_touch]
        page.set_viewport_size(size)
        page.emulate_media(media="screen", **media)
        page.evaluate(RENEW, f"#{address}")
        name, _, unit = address.partition("/")
        page.wait_for_function(
            "([name, unit]) => explorer.model?.name === name && explorer.view && explorer.state.unit === unit",
            arg=[name or FIRST, int(unit) if unit else None],
        )
        page.evaluate(SETTLED)
        return page

    def open_page(context, place, address):
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(describe(message)))
        page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
        known = ("file://" if place.startswith("file://") else place, "data:")
        page.on("request", lambda r: r.url.startswith(known) or faults.append(f"request: {r.url}"))
        page.goto(place + (f"#{address}" if address else ""))
        page.wait_for_function("explorer.view || document.querySelector('#message').textContent")
        return page

    def describe(message):
        file = message.location.get("url", "").rsplit("/", 1)[-1]
        return f"{file} {message.text.rsplit(' ', 1)[-1]}" if "ERR_FILE" in message.text else f"console: {message.text}"

    yield visit
    for context in contexts:
        context.close()
    assert [fault for fault in faults if fault not in allowed] == []


@pytest.fixture
def folder(tmp_path):
    """A folder with the page, and what all models share, but no model."""
    for name in ("index.html", "images_MNIST.js", "models.js"):
        shutil.copy(SHIPPED_PAGE / name, tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    """The ten test digits of the page's buttons, [10, 784] in [0, 1]."""
    data = common.load_data(train_count=0)
    return common.first_images(data.test_images, data.test_labels)


@pytest.fixture(scope="module", params=NAMES)
def shipped(request):
    """The name of each shipped model in turn."""
    return request.param


def model_file(folder, name):
    return folder / "models" / f"{name}.js"


def copy_model(name, folder):
    """Put a shipped model beside the page in another folder."""
    shutil.copy(model_file(SHIPPED_PAGE, name), model_file(folder, name))


def content_of(folder, name):
    """What a model's file hands to the page."""
    return json.loads(model_file(folder, name).read_text().removeprefix("explore(").removesuffix(");\n"))


def spoil(content, **changes):
    """The text of a model's file in which some values are others."""
    return f"explore({json.dumps({**content, **changes})});"


SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def look(page):
    """What the page shows, once it has been drawn."""
    page.evaluate(SETTLED)
    view = page.evaluate(
        """() => Object.fromEntries(Object.entries(explorer.view).map(
            ([key, value]) => [key, value.length === undefined ? value : Array.from(value)]))"""
    )
    view["shown_error"] = float(page.inner_text("#error"))
    view["shown_active"] = int(page.inner_text("#active"))
    return view


def draw(page, *points):
    """A stroke through points of the drawing area, whose corners are (0, 0) and (1, 1)."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def go(page, address):
    """Follow an address."""
    page.evaluate("address => { location.hash = address; }", address)


def slide(page, slider, position):
    page.locator(slider).evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input', { bubbles: true })); }", position
    )


def press_digit(page, digit):
    page.get_by_role("button", name=f"Test digit {digit}").click()


def pressed_digit(page):
    return page.locator("#digits button[aria-pressed=true]").inner_text()


def painted(page, canvas):
    """Whether a canvas has more than one colour."""
    return page.locator(canvas).evaluate(
        """canvas => new Set(new Uint32Array(
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 1"""
    )


def tile(page, index=0):
    return page.locator("#strip button:visible").nth(index)


def switch(page, index=0):
    """Choose a tile, and switch its unit off or on."""
    tile(page, index).click()
    page.evaluate(SETTLED)
    page.click("#switch")


# Against Python


@torch.no_grad()
def test_code_and_reconstruction_agree_with_python(visit, digits, shipped):
    model = common.load_pretrained(shipped)
    reconstruction, code = model(digits)
    page, same, either = visit(shipped), 0, 0
    for digit in range(10):
        press_digit(page, digit)
        view = look(page)
        assert torch.tensor(view["input"]).equal(digits[digit])
        ours = torch.tensor(view["code"]) > model.active_above
        theirs = code[digit] > model.active_above
        same, either = same + (ours & theirs).sum(), either + max(ours.sum(), theirs.sum())
        assert view["active"] == view["shown_active"] == ours.sum()
        mse = (reconstruction[digit] - digits[digit]).square().mean().item()
        assert view["error"] == pytest.approx(mse, rel=0.02)
        assert view["shown_error"] == pytest.approx(view["error"], abs=1e-5)
        assert torch.allclose(torch.tensor(view["image"]), reconstruction[digit], atol=0.02)
    assert same >= 0.95 * either


@pytest.mark.parametrize("name", ["sparse_l1", "sparse_kl", "sparse_ksparse_k25"])
@torch.no_grad()
def test_fewer_units_and_units_off_agree_with_python(visit, digits, name):
    model = common.load_pretrained(name)
    page = visit(name)
    press_digit(page, 2)
    rest = torch.tensor(page.evaluate("Array.from(explorer.model.medianCode)"), dtype=torch.float32)
    position, count = page.evaluate("[8, Number(document.querySelector('#kept').max)]")
    slide(page, "#kept", position)
    switch(page, 1)
    view = look(page)
    kept, off = page.evaluate("[explorer.state.kept, [...explorer.state.off]]")
    assert position < count and kept == position + 1 and len(off) == 1

    code = model.encode(digits[2:3])[0]
    size = (code - rest).abs() * model.dictionary.norm(dim=1)
    chosen = size.argsort(descending=True)[:kept].tolist()
    assert set(chosen) == set(view["ranked"][:kept]) and off == [view["ranked"][1]]
    on = [unit for unit in chosen if unit not in off]
    partial = rest.index_copy(0, torch.tensor(on), code[on])
    expected = model.decode(partial[None])[0]
    assert torch.allclose(torch.tensor(view["image"]), expected, atol=0.01)
    assert view["error"] == pytest.approx((expected - digits[2]).square().mean().item(), rel=0.02)


@torch.no_grad()
def test_k_is_a_slider(visit, digits):
    model = common.load_pretrained("sparse_ksparse_k25")
    page = visit("sparse_ksparse_k25")
    press_digit(page, 7)
    as_trained = look(page)["error"]
    for position in (0, 11):
        slide(page, "#k", position)
        view = look(page)
        model.k = page.evaluate("explorer.state.k")
        assert view["active"] == model.k == position + 1
        expected = (model(digits[7:8])[0] - digits[7]).square().mean().item()
        assert view["error"] == pytest.approx(expected, rel=0.02) and expected > as_trained
        assert page.inner_text("#k-note") == f"{model.k}, trained with 25"
    slide(page, "#k", page.locator("#k").get_attribute("max"))
    assert page.evaluate("explorer.state.k") == 1000
    slide(page, "#k", 24)
    assert look(page)["error"] == as_trained
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.model?.name === 'sparse_l1'")
    page.evaluate(SETTLED)
    assert not page.is_visible("#k") and page.inner_text("#kept-note") == "all 512"


def test_encode_and_decode_from_the_console(visit):
    page = visit("sparse_l1")
    difference = page.evaluate(
        """() => {
            const { model, view } = explorer, image = explorer.decode(explorer.encode(view.input, model), model);
            return Math.max(...image.map((value, pixel) => Math.abs(value - explorer.view.image[pixel])));
        }"""
    )
    assert difference < 1e-4


# Drawing


def test_a_stroke_undo_and_clear(visit):
    page = visit()
    digit = look(page)
    draw(page, (0.5, 0.2), (0.5, 0.8))
    one = look(page)
    assert one["input"] != digit["input"] and one["active"] == 25
    assert painted(page, "#pad") and painted(page, "#input") and painted(page, "#image")
    draw(page, (0.3, 0.5), (0.7, 0.5))
    cross = look(page)
    assert sum(cross["input"]) > sum(one["input"])
    page.click("#undo")
    assert look(page)["input"] == one["input"]
    page.click("#clear")
    page.evaluate(SETTLED)
    assert page.is_disabled("#clear") and not painted(page, "#pad") and not page.evaluate("explorer.view")
    page.keyboard.press("Control+z")
    assert look(page)["input"] == one["input"]
    page.click("#undo")
    assert look(page)["input"] == digit["input"] and page.is_disabled("#undo")


def test_ink_stays_under_a_stroke_beside_it(visit):
    """The soft edge of the second does not wash out the first."""
    page = visit(color_scheme="light")
    page.click("#clear")
    shades = "pad.getContext('2d').getImageData(0, 0, pad.width, pad.height).data.filter((_, i) => i % 4 === 0)"
    draw(page, (0.5, 0.2), (0.5, 0.8))
    page.evaluate(SETTLED)
    before = torch.tensor(page.evaluate(f"[...{shades}]"))
    draw(page, (0.54, 0.2), (0.54, 0.8))
    page.evaluate(SETTLED)
    after = torch.tensor(page.evaluate(f"[...{shades}]"))
    assert (after <= before).all() and (after < before).any()


def test_a_finger_draws(visit):
    page = visit(has_touch=True, viewport=(360, 740))
    before = look(page)["input"]
    box = page.locator("#pad").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert look(page)["input"] != before and page.evaluate("getComputedStyle(pad).touchAction") == "none"


def test_the_brush_is_soft(visit):
    page = visit()
    page.uncheck("#fit")
    draw(page, (0.5, 0.3), (0.5, 0.7))
    values = look(page)["input"]
    assert max(values) > 0.95 and sum(0.05 < value < 0.95 for value in values) > 20


def test_a_drawing_that_is_fitted_loses_no_ink(visit):
    page = visit()
    draw(page, (0.1, 0.1), (0.9, 0.1), (0.9, 0.95))  # a 7 whose centre of mass lies in a corner
    image = torch.tensor(look(page)["input"]).view(28, 28)
    lit = (image > 0.5).nonzero()
    assert (lit.amax(dim=0) - lit.amin(dim=0) + 1).max() >= 19
    assert (image[0] + image[-1] + image[:, 0] + image[:, -1] < 0.5).all()


def test_fit_like_mnist(visit):
    page = visit()
    draw(page, (0.1, 0.1), (0.2, 0.4), (0.12, 0.4))
    image = torch.tensor(look(page)["input"]).view(28, 28)
    lit = (image > 0.5).nonzero()
    height, width = (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist()
    assert 19 <= height <= 21 and width < 16
    for axis in (0, 1):  # counted from 0, the middle is pixel 14, as in MNIST
        assert (image.sum(1 - axis) * torch.arange(28)).sum() / image.sum() == pytest.approx(14, abs=0.3)
    page.uncheck("#fit")
    image = torch.tensor(look(page)["input"]).view(28, 28)
    assert image[:14, :8].sum() > 0.99 * image.sum() > 0
    press_digit(page, 4)
    digit = look(page)["input"]
    page.check("#fit")
    assert look(page)["input"] == digit


# Units


def test_a_unit_off_and_on(visit):
    page = visit()
    whole, name = look(page), tile(page).get_attribute("aria-label")
    tile(page).click()
    assert look(page)["image"] == whole["image"] and tile(page).get_attribute("aria-pressed") == "true"
    page.click("#switch")
    less = look(page)
    assert less["error"] > whole["error"] and less["code"] == whole["code"]
    assert tile(page).get_attribute("aria-label") == f"{name}, switched off"
    assert "switched off" in page.inner_text("#unit-note") and page.inner_text("#switch") == "Switch on"
    tile(page, 1).click()
    assert look(page)["image"] == less["image"] and page.inner_text("#switch") == "Switch off"
    switch(page, 0)
    assert look(page)["image"] == whole["image"]
    switch(page, 2)
    switch(page, 0)
    page.click("#all-on")
    assert look(page)["image"] == whole["image"]


def test_a_unit_that_is_off_stays_in_sight(visit):
    page = visit()
    press_digit(page, 0)
    switch(page)
    unit = look(page)["ranked"][0]
    for digit in range(1, 10):
        press_digit(page, digit)
        look(page)
        assert "switched off" in page.get_by_role("button", name=f"Unit {unit},").get_attribute("aria-label")


def test_only_the_n_strongest(visit):
    page = visit("sparse_l1")
    look(page)
    errors = []
    for position in (0, 10, 25, int(page.get_attribute("#kept", "max"))):
        slide(page, "#kept", position)
        view = look(page)
        errors.append(view["error"])
        assert view["curve"][position] == pytest.approx(view["error"])
        left_out = page.locator("#strip button.left-out:visible").count()
        assert left_out == max(0, 24 - page.evaluate("explorer.state.kept"))
    assert errors == sorted(errors, reverse=True) and errors[0] > 10 * errors[-1]
    assert page.inner_text("#kept-note") == "all 512"
    assert page.locator("#plot polyline").count() == page.locator("#plot circle").count() == 1


def test_the_chosen_unit_is_shown_large(visit):
    page = visit()
    look(page)
    tile(page, 3).click()
    unit = look(page)["ranked"][3]
    assert page.inner_text("#unit-title") == f"Unit {unit}"
    assert painted(page, "#unit-draws") and painted(page, "#unit-seeks")
    frequency = page.evaluate("unit => explorer.model.frequency[unit]", unit)
    assert f"Active on {100 * frequency:.1f} % of the test images." in page.inner_text("#unit-note")
    counts = page.evaluate("u => Array.from(explorer.model.histogram.subarray(20 * u, 20 * u + 20))", unit)
    assert sum(counts) == round(10_000 * frequency)
    heights = page.locator("#histogram rect").evaluate_all("bars => bars.map(bar => bar.height.baseVal.value)")
    assert heights == pytest.approx([104 * count / max(counts) for count in counts], abs=0.01)
    assert page.get_attribute("#histogram", "aria-label").endswith(", ".join(map(str, counts)))
    shares = page.evaluate("u => Array.from({length: 10}, (_, d) => explorer.model.digits[d * 1000 + u])", unit)
    heights = page.locator("#bars i").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.backgroundSize.split(' ')[1]))"
    )
    assert heights == pytest.approx([100 * share / max(shares) for share in shares], abs=0.1)
    label = page.get_attribute("#bars", "aria-label")
    assert f"mean code: {shares.index(max(shares))}, " in label


def test_select_and_switch_off_are_two_things_for_a_finger(visit):
    page = visit(has_touch=True, viewport=(360, 640))
    before = look(page)
    tile(page, 5).tap()
    after = look(page)
    assert after["image"] == before["image"] and page.inner_text("#unit-title") == f"Unit {before['ranked'][5]}"
    page.tap("#switch")
    assert look(page)["image"] != before["image"]


def test_tiles_are_seen_on_a_gentler_scale(visit):
    page = visit(color_scheme="light")
    look(page)
    shades = page.evaluate(
        """() => [...document.querySelectorAll("#strip button:not([hidden]) canvas")].map(canvas =>
            canvas.getContext("2d").getImageData(0, 0, 28, 28).data.reduce((most, v) => Math.max(most, 255 - v), 0))"""
    )
    assert len(shades) == 24 and min(shades) > 70  # of 231; in proportion, the last had 26
    assert "square root" in page.inner_text("#adding")


# What a unit stands for


@pytest.fixture(scope="module")
def test_set():
    return common.load_data(train_count=0)


@torch.no_grad()
def test_the_images_that_light_a_unit_agree_with_python(visit, test_set, shipped):
    name = shipped
    assert model_file(SHIPPED_PAGE, name).stat().st_size < 5_000_000
    model = common.load_pretrained(name)
    code = common.encode_all(model, test_set.test_images)
    page = visit(name)
    found = page.evaluate(
        "(({strongest, strongestCode, middling, middlingCode, frequency}) => "
        "[strongest, strongestCode, middling, middlingCode, frequency].map(values => [...values]))(explorer.model)"
    )
    strongest, strongest_code, middling, middling_code, frequency = (torch.tensor(values) for values in found)
    strongest, strongest_code = strongest.view(-1, 12), strongest_code.view(-1, 12)
    middling, middling_code = middling.view(-1, 6), middling_code.view(-1, 6)
    assert torch.allclose(frequency, (code > model.active_above).float().mean(dim=0), atol=1e-4)

    expected = code.topk(12, dim=0).values.T
    is_on = expected > model.active_above
    assert ((strongest >= 0) == is_on).float().mean() > 0.999
    assert torch.allclose(strongest_code[is_on], expected[is_on], rtol=1e-3, atol=1e-3)
    units = torch.arange(len(strongest))[:, None]
    assert torch.allclose(code[strongest.clamp(min=0), units][is_on], expected[is_on], rtol=1e-3, atol=1e-3)

    is_there = middling >= 0
    values = code[middling.clamp(min=0), units]
    assert torch.allclose(values[is_there], middling_code[is_there], rtol=1e-3, atol=1e-3)
    middle = (model.active_above + expected[:, :1]) / 2
    away = ((values - middle).abs() / (expected[:, :1] - model.active_above).clamp(min=1e-6))[is_there]
    assert is_there.float().mean() > 0.9 and away.median() < 0.02 and values[is_there].min() > model.active_above

    page.wait_for_function("explorer.testImages")
    for unit in (0, 100, 500):
        page.evaluate("address => location.replace(address)", f"#{name}/{unit}")
        page.wait_for_function("unit => document.querySelector('#unit-title').textContent === `Unit ${unit}`", arg=unit)
        tiles = page.locator("#strongest button:visible")
        assert tiles.evaluate_all("all => all.map(one => Number(one.dataset.image))") == strongest[unit].tolist()
        shown = [float(text) for text in tiles.locator("small").all_inner_texts()]
        assert shown == pytest.approx(expected[unit].tolist(), rel=6e-3)
        tiles.nth(3).click()
        view = look(page)
        image = strongest[unit, 3]
        assert torch.tensor(view["input"]).equal(common.to_float(test_set.test_images[image]))
        assert view["code"][unit] == pytest.approx(code[image, unit].item(), rel=0.02)
        assert tiles.nth(3).get_attribute("aria-pressed") == "true"
        assert f"test image {image}" in page.inner_text("#input-note")
    page.click("#undo")


def test_the_page_has_the_test_images(visit, test_set):
    page = visit()
    page.wait_for_function("explorer.testImages")
    numbers = [0, 1, 77, 5000, 9999]
    found = page.evaluate("ns => ns.map(n => [...explorer.testImages.subarray(784 * n, 784 * n + 784)])", numbers)
    assert torch.tensor(found, dtype=torch.uint8).equal(test_set.test_images[numbers])
    total = page.evaluate("explorer.testImages.reduce((sum, value) => sum + value, 0)")
    assert total == test_set.test_images.long().sum()


def test_what_a_unit_explains_is_marked(visit):
    page = visit("sparse_l1/267", color_scheme="light")
    page.wait_for_function("explorer.testImages")
    look(page)
    image, picture = page.evaluate(
        """() => [[...explorer.testImages.subarray(784 * explorer.model.strongest[12 * 267])].slice(0, 784),
                  [...explorer.model.dictionary.subarray(784 * 267, 784 * 268)]]"""
    )
    pixels = page.locator("#strongest canvas").first.evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    red, _, blue, _ = torch.tensor(pixels).view(784, 4).T
    image, picture = torch.tensor(image) / 255, torch.tensor(picture)
    drawn = (image > 0.9) & (picture > 0.5 * picture.max())
    rest = (image > 0.9) & (picture.abs() < 0.02 * picture.max())
    assert drawn.any() and rest.any()
    assert (red - blue)[drawn].min() > 80 > 30 > (red - blue)[rest].abs().max()


def test_all_units_and_their_orders(visit):
    page = visit("sparse_kl/14")
    look(page)
    model = common.load_pretrained("sparse_kl")
    norms = model.dictionary.norm(dim=1)
    frequency, rest, largest = (
        torch.tensor(page.evaluate(f"Array.from(explorer.model.{key})"))
        for key in ("frequency", "medianCode", "strongestCode")
    )
    digits = torch.tensor(page.evaluate("Array.from(explorer.model.digits)")).view(10, -1)
    keys = {
        "frequency": -frequency,
        "digit": digits.argmax(dim=0) * 1000.0 - digits.amax(dim=0),
        "size": -(largest.view(-1, 12)[:, 0] - rest) * norms,
        "likeness": -(model.dictionary @ model.dictionary[14]) / norms / norms[14],
    }
    assert page.inner_text("#all-title") == "All 512 units"
    for order, key in keys.items():
        page.select_option("#order", order)
        columns = page.evaluate("Math.floor(document.querySelector('#all').clientWidth / 30)")
        found = []
        places = [0, 1, 2, columns + 1, 3 * columns, 6 * columns + 2]
        for index in places:
            page.locator("#all").focus()
            page.keyboard.press("Home")
            for _ in range(index // columns):
                page.keyboard.press("ArrowDown")
            for _ in range(index % columns):
                page.keyboard.press("ArrowRight")
            look(page)
            found.append(page.evaluate("explorer.state.unit"))
        assert torch.allclose(key[found], key.sort().values[places], atol=1e-3), order
        if order == "likeness":
            assert found[0] == 14 and "likeness to unit 14" in page.inner_text("#order")
        page.evaluate("location.replace('#sparse_kl/14')")
        look(page)
    page.evaluate("location.replace('#sparse_kl/511')")
    look(page)
    assert page.input_value("#order") == "likeness" and "likeness to unit 511" in page.inner_text("#order")
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.model?.name === 'sparse_l1'")
    strongest = look(page)["ranked"][0]
    assert f"likeness to unit {strongest}" in page.inner_text("#order")


def test_a_click_among_all_units(visit):
    page = visit("sparse_l1")
    look(page)
    by_frequency = page.evaluate(
        "[...explorer.model.frequency.keys()].sort((a, b) => explorer.model.frequency[b] - explorer.model.frequency[a])"
    )
    columns = page.evaluate("Math.floor(document.querySelector('#all').clientWidth / 30)")
    page.locator("#all-canvas").click(position={"x": 30 * 5 + 15, "y": 30 * 2 + 15})
    unit = by_frequency[2 * columns + 5]
    look(page)
    assert page.inner_text("#unit-title") == f"Unit {unit}" and page.url.endswith(f"#sparse_l1/{unit}")
    page.locator("#all").evaluate("box => { box.scrollTop = 90; }")
    page.evaluate(SETTLED)
    page.locator("#all-canvas").click(position={"x": 15, "y": 15})
    look(page)
    first = page.evaluate("Math.round(document.querySelector('#all').scrollTop) / 30 + 0.5 | 0")
    assert page.inner_text("#unit-title") == f"Unit {by_frequency[first * columns]}"
    assert painted(page, "#all-canvas")


def test_the_chosen_unit_is_brought_into_sight(visit):
    page = visit("sparse_ksparse_k25", viewport=(800, 800), fresh=True)
    look(page)
    rarest = page.evaluate("explorer.model.frequency.indexOf(Math.min(...explorer.model.frequency))")
    page.evaluate("unit => { location.hash = `#sparse_ksparse_k25/${unit}`; }", rarest)
    page.wait_for_function("unit => explorer.state.unit === unit", arg=rarest)
    look(page)
    assert page.evaluate("document.querySelector('#all').scrollTop") > 500
    page.select_option("#order", "digit")
    look(page)
    frame = page.locator("#all-canvas").evaluate(
        """canvas => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                if ([178, 59, 6].every((part, channel) => Math.abs(data[i + channel] - part) <= 8)) count++;
            }
            return count;
        }"""
    )
    assert frame > 100


def test_focus_is_not_lost_when_a_button_is_done(visit):
    page = visit()
    look(page)
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    page.evaluate(SETTLED)
    assert page.is_disabled("#clear") and page.evaluate("document.activeElement.id") == "pad"


def test_the_address_carries_the_unit(visit):
    page = visit("sparse_l1/359", fresh=True)
    look(page)
    assert page.inner_text("#unit-title") == "Unit 359" and page.input_value("#models") == "sparse_l1"
    tile(page, 2).click()
    unit = look(page)["ranked"][2]
    assert page.url.endswith(f"#sparse_l1/{unit}")
    again = visit(page.url.partition("#")[2], fresh=True)
    look(again)
    assert again.inner_text("#unit-title") == f"Unit {unit}"
    press_digit(page, 9)  # the chosen unit stays, and one sees what it does on another image
    look(page)
    assert page.inner_text("#unit-title") == f"Unit {unit}"
    page.select_option("#models", "sparse_kl")
    page.wait_for_function("explorer.model?.name === 'sparse_kl'")
    page.evaluate(SETTLED)
    assert page.evaluate("explorer.state.unit") is None
    page.evaluate("location.hash = '#sparse_kl/511'")
    page.wait_for_function("explorer.state.unit === 511")
    page.evaluate("location.hash = '#sparse_kl/512'")
    page.wait_for_function("document.querySelector('#message').textContent")
    assert page.inner_text("#message") == "sparse_kl has no unit 512: its units are 0 to 511"
    tile(page).click()
    assert not page.is_visible("#message")
    for unit in ("-1", "9e9", "x"):
        page.evaluate("unit => { location.hash = `#sparse_kl/${unit}`; }", unit)
        page.wait_for_function("document.querySelector('#message').textContent")
        assert f"no unit {unit}: " in page.inner_text("#message") and page.evaluate("explorer.view")
        page.evaluate("location.hash = '#sparse_kl/7'")
        page.wait_for_function("!document.querySelector('#message').textContent")


def test_a_dead_unit_is_crossed_out_and_has_no_images(visit, folder):
    content = content_of(SHIPPED_PAGE, "sparse_l1")
    dead = {
        "frequency": torch.zeros(512),
        "strongest": torch.full((512, 12), -1),
        "strongest_code": torch.zeros(512, 12),
        "middling": torch.full((512, 6), -1),
        "middling_code": torch.zeros(512, 6),
        "histogram": torch.zeros(512, 20),
    }
    kinds = dict.fromkeys(dead, "<f4") | {"strongest": "<i2", "middling": "<i2", "histogram": "<u2"}
    changes = {key: common.pack(values, kinds[key]) for key, values in dead.items()}
    model_file(folder, "sparse_l1").write_text(spoil(content, **changes))
    page = visit("sparse_l1/3", folder)
    page.wait_for_function("explorer.testImages")
    for order in ("frequency", "digit", "size", "likeness"):
        page.select_option("#order", order)
        look(page)
    assert not page.is_visible("#histogram") and not page.is_visible("#bars")
    assert "Dead: active on no test image." in page.inner_text("#unit-note")
    assert not page.is_visible("#strongest button") and not page.is_visible("#middling button")


# Keyboard, eyes, small screens


def test_by_keyboard_alone(visit):
    page = visit(fresh=True)
    look(page)
    reached, seen_outline = set(), True
    for _ in range(60):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            """() => { const e = document.activeElement, style = getComputedStyle(e);
                       return [e.id || e.ariaLabel || e.tagName, style.outlineStyle]; }"""
        )
        seen_outline &= where == "BODY" or outline == "solid"
        reached.add(where)
    controls = {"models", "pad", "clear", "fit", "kept", "k", "switch", "order", "all"}
    assert controls | {f"Test digit {digit}" for digit in range(10)} <= reached and seen_outline
    assert sum(where.startswith("Unit ") for where in reached) == 1  # from there with arrow keys
    assert sum(where.startswith("Test image ") for where in reached) == 18

    page.locator("#digits button").nth(8).focus()
    page.keyboard.press("Enter")
    look(page)
    assert page.locator("#digits button[aria-pressed=true]").get_attribute("aria-label") == "Test digit 8"
    tile(page, 0).focus()
    page.keyboard.press("ArrowRight")
    whole = look(page)
    assert page.inner_text("#unit-title") == f"Unit {whole['ranked'][1]}"
    page.keyboard.press("ArrowDown")
    look(page)
    assert page.inner_text("#unit-title") == f"Unit {whole['ranked'][13]}"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("x")
    assert look(page)["image"] != whole["image"] and page.evaluate("[...explorer.state.off]") == [whole["ranked"][1]]
    page.locator("#kept").focus()
    page.keyboard.press("Home")
    look(page)
    assert page.evaluate("explorer.state.kept") == 1
    page.keyboard.press("ArrowRight")
    look(page)
    assert page.evaluate("explorer.state.kept") == 2 and page.get_attribute("#kept", "aria-valuetext") == "2 of 25"
    page.locator("#fit").focus()
    page.keyboard.press("Space")
    assert not page.is_checked("#fit")


def test_the_pad_by_keyboard(visit):
    page = visit(fresh=True)
    page.locator("#clear").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "pad" and page.is_visible("#brush")
    page.keyboard.press("7")
    look(page)
    assert pressed_digit(page) == "7"
    for key in ("ArrowUp", "ArrowUp", " ", *["ArrowDown"] * 12, " ", *["ArrowRight"] * 3):
        page.keyboard.press(key)
    image = torch.tensor(look(page)["input"]).view(28, 28)
    lit = (image > 0.5).nonzero()
    height, width = (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist()
    assert height >= 18 and width <= 5  # a stroke downwards; the brush was up when it moved to the right
    page.keyboard.press("Control+z")
    look(page)
    assert pressed_digit(page) == "7"
    page.keyboard.press("Tab")
    assert not page.is_visible("#brush")


def test_a_brush_that_was_down_is_lifted(visit):
    """By undo, and by a digit; and a key that is held does not switch."""
    page = visit(fresh=True)
    page.locator("#pad").focus()
    page.keyboard.press(" ")
    page.keyboard.press("Control+z")
    page.keyboard.press("ArrowRight")
    look(page)
    assert page.is_disabled("#undo") and pressed_digit(page) == "2"
    page.keyboard.press(" ")
    page.keyboard.press("3")
    before = look(page)["input"]
    page.keyboard.press("ArrowRight")
    assert look(page)["input"] == before and page.get_attribute("#brush", "class") == ""
    page.keyboard.down(" ")
    page.keyboard.down(" ")
    assert page.get_attribute("#brush", "class") == "down"


def test_x_switches_the_tile_that_has_the_focus(visit):
    page = visit("sparse_l1/359")
    first = look(page)["ranked"][0]
    tile(page).focus()
    page.keyboard.press("x")
    look(page)
    assert page.evaluate("[...explorer.state.off]") == [first]
    page.wait_for_function("unit => spoken.textContent !== '' && explorer.state.off.has(unit)", arg=first)


def test_a_chosen_unit_is_read_aloud(visit):
    page = visit("sparse_l1")
    look(page)
    tile(page, 2).click()
    page.wait_for_function("/^Unit \\d+, active on [\\d.]+ % of the test images\\.$/.test(spoken.textContent)")
    page.keyboard.press("x")
    page.wait_for_function("/^Unit \\d+ switched off\\.$/.test(spoken.textContent)")


def test_an_empty_pad_shows_nothing(visit):
    page = visit("sparse_ksparse_k25")
    look(page)
    page.click("#clear")
    page.evaluate(SETTLED)
    assert page.inner_text("#error") == page.inner_text("#active") == "–" and not painted(page, "#image")
    assert not page.is_visible("#strip") and not page.is_visible("#plot") and page.is_disabled("#k")
    assert page.is_visible("#all") and painted(page, "#unit-draws")
    page.locator("#all-canvas").click(position={"x": 45, "y": 15})
    page.evaluate(SETTLED)
    assert "here" not in page.inner_text("#unit-note") and page.evaluate("explorer.state.unit") is not None
    page.click("#switch")
    draw(page, (0.5, 0.2), (0.5, 0.8))
    assert look(page)["active"] == 25 and page.is_visible("#strip")


@pytest.mark.parametrize("width", [360, 400])
def test_one_sees_the_answer_while_drawing_on_a_phone(visit, width):
    page = visit(has_touch=True, viewport=(width, 640))
    look(page)
    page.locator("#pad").evaluate("pad => pad.scrollIntoView({block: 'center'})")
    for canvas in ("#pad", "#input", "#image"):
        box = page.locator(canvas).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 640 and box["width"] >= 90, canvas


def test_what_is_pressed_is_seen_in_forced_colours(visit):
    page = visit(forced_colors="active")
    look(page)
    tile(page).click()
    look(page)
    style = "element => getComputedStyle(element).outlineStyle"
    assert tile(page).evaluate(style) == page.locator("#digits [aria-pressed=true]").evaluate(style) == "solid"
    assert tile(page, 1).evaluate(style) == "none"
    assert page.locator("#bars i").first.evaluate("bar => getComputedStyle(bar).backgroundImage") != "none"


def test_printed_from_a_dark_screen(visit):
    page = visit("sparse_l1", color_scheme="dark")
    look(page)
    pixel = "() => Array.from(document.querySelector('#input').getContext('2d').getImageData(0, 0, 1, 1).data)"
    assert sum(page.evaluate(pixel)[:3]) < 150
    page.emulate_media(media="print")
    page.evaluate(SETTLED)
    assert sum(page.evaluate(pixel)[:3]) >= 3 * 250
    assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < 4.5] == []
    page.emulate_media(media="screen")
    page.evaluate(SETTLED)
    assert sum(page.evaluate(pixel)[:3]) < 150


def test_two_names_are_the_windows(visit, tmp_path):
    names = "() => Object.getOwnPropertyNames(window)"
    page = visit(fresh=True)
    assert page.evaluate("typeof history.back") == "function"
    own = set(page.evaluate(names))
    (tmp_path / "empty.html").touch()
    page.goto((tmp_path / "empty.html").as_uri())
    assert own - set(page.evaluate(names)) == {"explore", "explorer"}


def test_what_is_read_aloud(visit):
    page = visit(fresh=True)
    page.wait_for_function("/^Error 0\\.\\d+, 25 units active, all 25 kept\\.$/.test(spoken.textContent)")
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=img], [role=application]")]
            .filter(element => !element.closest("[hidden]"))
            .filter(element => !(element.ariaLabel || element.labels?.length || element.textContent.trim()))
            .map(element => element.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("name", ["sparse_kl", "sparse_ksparse_k100"])
def test_nothing_sticks_out(visit, name, width):
    page = visit(name, viewport=(width, 800))
    look(page)
    slide(page, "#kept", 20)
    switch(page)
    look(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main *:not(#spoken)")].filter(element => {
            const box = element.getBoundingClientRect();
            return box.width && (box.left < 0 || box.right > innerWidth + 0.5);
        }).map(element => element.outerHTML.slice(0, 80))"""
    )
    assert outside == []


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
        const style = getComputedStyle(element);
        const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!hasText || !element.getClientRects().length) continue;
        if (element.matches("noscript, option, button:disabled")) continue;
        const colour = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
        pairs.push([element.outerHTML.slice(0, 80), contrast(luminance(colour), luminance(behind(element)))]);
    }
    return pairs;
}"""


def test_text_can_be_read(visit):
    for scheme in ("light", "dark"):
        page = visit("sparse_l1", color_scheme=scheme)
        switch(page)
        look(page)
        pairs = page.evaluate(CONTRASTS)
        go(page, "sparse_l1/512")
        page.wait_for_function("message.textContent")
        pairs += page.evaluate(CONTRASTS)
        assert len(pairs) > 60 and [pair for pair in pairs if pair[1] < 4.5] == [], scheme


def test_the_colours_follow_the_scheme(visit):
    page = visit(color_scheme="light")
    look(page)
    corner = "() => Array.from(document.querySelector('#input').getContext('2d').getImageData(0, 0, 1, 1).data)"
    light = page.evaluate(corner)
    page.emulate_media(color_scheme="dark")
    look(page)
    assert sum(page.evaluate(corner)) < sum(light)


# Files


def test_a_missing_file(visit, folder):
    copy_model("sparse_l1", folder)
    page = visit("", folder, missing=["sparse_ksparse_k25.js"])
    assert page.inner_text("#message") == (
        "There is no models/sparse_ksparse_k25.js beside this page. To write it: python sparse_ksparse.py --k 25"
    )
    assert page.inner_text("#error") == "–"
    draw(page, (0.3, 0.3), (0.7, 0.7))  # one can draw all the same, and choose another
    page.evaluate(SETTLED)
    assert painted(page, "#pad") and painted(page, "#input") and not painted(page, "#image")
    assert page.is_disabled("#kept") and page.locator("#strip button:visible").count() == 0
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.view")
    assert not page.is_visible("#message") and look(page)["active"] > 0


def test_a_page_starts_with_what_lies_beside_it(visit, test_set, tmp_path):
    """The run that writes a model's file copies the page there, and lists what the folder has. A model may be called as
    the page's own files are."""
    (tmp_path / "models").mkdir()
    for name in ("sparse_kl", "sparse_l1"):
        copy_model(name, tmp_path)
    own = ["2026-11-25T10:00", "images_MNIST", "index", "models"]
    for name in own:
        model_file(tmp_path, name).write_text(spoil(content_of(SHIPPED_PAGE, "sparse_l1"), name=name))
    common.write_page(tmp_path, test_set)
    page = visit("", tmp_path)
    options = page.locator("#models option").evaluate_all("options => options.map(option => option.value)")
    assert options == ["sparse_l1", "sparse_kl", *own]
    assert page.input_value("#models") == "sparse_l1" and look(page)["active"] > 0
    for name in own:
        page.select_option("#models", name)
        page.wait_for_function("name => explorer.model?.name === name && explorer.testImages", arg=name)


def test_a_server_can_serve_the_folder(visit):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SHIPPED_PAGE)) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            page = visit("sparse_l1/359", server=f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("explorer.testImages")
            look(page)
            assert page.inner_text("#unit-title") == "Unit 359" and page.is_visible("#strongest button")
        finally:
            server.shutdown()


def test_without_what_models_share(visit, folder):
    """The page alone, with a model's file."""
    missing = ["images_MNIST.js", "models.js"]
    for name in missing:
        (folder / name).unlink()
    copy_model("sparse_l1", folder)
    page = visit("sparse_l1/3", folder, missing=missing)
    page.wait_for_function("document.querySelector('#no-examples').textContent")
    assert look(page)["active"] > 0 and page.locator("#models option").count() == len(NAMES)
    assert "images_MNIST.js cannot be read (it is not beside this page)" in page.inner_text("#no-examples")
    assert not page.is_visible("#strongest")


@pytest.mark.parametrize("content", ["explore(", 'explore("*");', 'explore("AAAA");', "explore([]);", ""])
def test_test_images_that_cannot_be_read(visit, folder, content):
    (folder / "images_MNIST.js").write_text(content)
    copy_model("sparse_l1", folder)
    page = visit("sparse_l1", folder)
    page.wait_for_function("document.querySelector('#no-examples').textContent")
    assert look(page)["active"] > 0 and "\n" not in page.inner_text("#no-examples")


DAMAGED = {
    "not JavaScript": lambda content: "explore({",
    "empty": lambda content: "",
    "cut off": lambda content: spoil(content)[:100_000],
    "another model": lambda content: spoil(content, name="sparse_kl"),
    "unknown function": lambda content: spoil(content, activation="toString"),
    "function that is no name": lambda content: spoil(content, squash=["sigmoid"]),
    "no threshold": lambda content: spoil(content, active_above=None),
    "no data set": lambda content: spoil(content, dataset=None),
    "no object": lambda content: "explore(null);",
    "no hidden": lambda content: spoil(content, hidden=None),
    "negative hidden": lambda content: spoil(content, hidden=-1),
    "missing key": lambda content: spoil({key: value for key, value in content.items() if key != "median_code"}),
    "wrong length": lambda content: spoil(content, bias=content["bias"][:-8]),
    "bad base64": lambda content: spoil(content, encoder="*" + content["encoder"][1:]),
    "images of another length": lambda content: spoil(content, strongest=content["middling"]),
    "of an earlier version": lambda content: spoil({k: v for k, v in content.items() if k != "frequency"}),
    "no text": lambda content: spoil(content, images=3),
    "NaN": lambda content: spoil(content, decoder_bias="AADAfwAA" + content["decoder_bias"][8:]),
    "infinite scale": lambda content: spoil(content, encoder_scale="AACAfwAA" + content["encoder_scale"][8:]),
    "throws": lambda content: "throw Error('no');",
}


def test_a_damaged_file(visit, folder):
    content = content_of(SHIPPED_PAGE, "sparse_l1")
    copy_model("sparse_kl", folder)
    page = visit("sparse_kl", folder)
    for damage, spoilt in DAMAGED.items():
        model_file(folder, "sparse_l1").write_text(spoilt(content))
        go(page, "sparse_l1")
        page.wait_for_function("message.textContent")
        message = page.inner_text("#message")
        assert message.startswith("models/sparse_l1.js cannot be used: "), damage
        assert message.endswith(". To write it: python sparse_l1.py") and "\n" not in message, damage
        assert not page.evaluate("explorer.model"), damage
        page.select_option("#models", "sparse_kl")
        page.wait_for_function("explorer.view")
        assert not page.is_visible("#message")


def test_a_function_that_the_page_does_not_have(visit, folder):
    page = visit("", folder, missing=["sparse_ksparse_k25.js"])
    for name, key in (("sparse_l1", "activation"), ("sparse_kl", "squash")):
        model_file(folder, name).write_text(spoil(content_of(SHIPPED_PAGE, name), **{key: "alert"}))
        go(page, name)
        page.wait_for_function("name => message.textContent.includes(name)", arg=name)
        assert page.inner_text("#message") == (
            f"models/{name}.js cannot be used: this page has no function called alert, which is its {key}. "
            f"To write it: python {name}.py"
        )


def test_a_wrong_k(visit, folder):
    content = content_of(SHIPPED_PAGE, "sparse_ksparse_k5")
    copy_model("sparse_l1", folder)
    page = visit("sparse_l1", folder)
    for k in (None, 0, 1001, 2.5):
        model_file(folder, "sparse_ksparse_k5").write_text(spoil(content, k=k))
        go(page, "sparse_ksparse_k5")
        page.wait_for_function("message.textContent")
        assert "its k is wrong" in page.inner_text("#message"), k
        go(page, "sparse_l1")
        page.wait_for_function("explorer.view")


def test_a_model_of_ones_own(visit, folder):
    names = ["my own sparse_l1 ü 0.001", "2026-11-25T10:00", "cost_$5 #3 100%25", "<i>'\"&?"]
    for name in names:
        model_file(folder, name).write_text(spoil(content_of(SHIPPED_PAGE, "sparse_l1"), name=name))
    page = visit(quote(names[0]), folder)
    for number, name in enumerate(names, start=1):
        go(page, quote(name))
        page.wait_for_function("name => explorer.model?.name === name", arg=name)
        assert page.input_value("#models") == name and page.locator("#models option").count() == len(NAMES) + number
        assert look(page)["active"] > 0


def test_an_address_that_names_no_model(visit):
    page = visit("../sparse_l1", fresh=True)
    for address in ("../sparse_l1", "<b>x</b>", "https://example.org/x"):
        go(page, address)
        page.wait_for_function("message.textContent")
        assert page.inner_text("#message").startswith("This address names no model")
        page.select_option("#models", "sparse_l1")
        page.wait_for_function("explorer.view")


def test_the_chooser_lists_the_shipped_models(visit):
    page = visit(fresh=True)
    assert page.locator("#models option").evaluate_all("options => options.map(option => option.value)") == list(NAMES)
    assert page.input_value("#models") == "sparse_ksparse_k25"
    page.select_option("#models", "sparse_ksparse_k5")
    page.wait_for_function("explorer.model?.k === 5")
    assert page.url.endswith("#sparse_ksparse_k5") and look(page)["active"] == 5


# Models that are not shipped


@pytest.fixture(scope="module")
def own_models(tmp_path_factory):
    """write(method, ...): a folder with the page of a small model, the model, its name, and the images of the page's
    buttons. The model is judged by the `chosen` ones of 199 test images, with their labels or without."""
    data = common.load_data(train_count=600)
    images, labels = data.test_images[:199], data.test_labels[:199]

    def write(method, chosen=slice(None), has_labels=True, **changes):
        folder = tmp_path_factory.mktemp("page")
        model = METHODS[method].train(data._replace(test_images=images, test_labels=labels), **changes)
        shown, own = images[chosen], labels[chosen] if has_labels else None
        report = common.evaluate(model, shown, own)
        common.write_explorer(model, report, common.first_images(shown, own), folder)
        common.write_page(folder, data)
        return folder, model, model.name, common.first_images(shown, own)

    return write


@pytest.mark.parametrize(("k", "hidden"), [(1, 4), (32, 64), (50, 64), (64, 64), (100, 300)])
@torch.no_grad()
def test_with_all_units_kept_the_image_is_the_models(visit, own_models, k, hidden):
    """Also where the median code is not 0, so that more than k units differ from it."""
    folder, model, name, digits = own_models("sparse_ksparse", k=k, hidden=hidden)
    page = visit(name, folder=folder)
    for digit in (1, 8):
        press_digit(page, digit)
        view = look(page)
        expected = model(digits[digit : digit + 1])[0][0]
        assert torch.allclose(torch.tensor(view["image"]), expected, atol=2e-3)
        assert view["error"] == pytest.approx((expected - digits[digit]).square().mean().item(), rel=2e-3)
        decoded = torch.tensor(page.evaluate("[...explorer.decode(explorer.view.code, explorer.model)]"))
        assert torch.allclose(torch.tensor(view["image"]), decoded, atol=1e-5)
    assert page.inner_text("#kept-note").startswith("all ")


def test_labels_that_lack_some_digits(visit, own_models):
    data = common.load_data(train_count=0)
    chosen = (data.test_labels[:199] % 5 != 1).nonzero()[:, 0]
    folder, _, name, digits = own_models("sparse_l1", chosen, hidden=16)
    page = visit(name, folder=folder)
    disabled = page.locator("#digits button:disabled").all_inner_texts()
    assert disabled == ["1", "6"] and pressed_digit(page) == "3"
    page.evaluate("pad.focus({ preventScroll: true })")
    page.keyboard.press("1")
    assert pressed_digit(page) == "3"
    page.keyboard.press("7")
    assert torch.tensor(look(page)["input"]).equal(digits[5]) and pressed_digit(page) == "7"
    assert page.inner_text("#bars-note") == "There are no test images of 1, 6."


def test_without_labels(visit, own_models):
    folder, _, name, digits = own_models("sparse_kl", has_labels=False, hidden=16)
    page = visit(name, folder=folder)
    press_digit(page, 9)
    assert torch.tensor(look(page)["input"]).equal(digits[9])
    assert page.is_hidden("#bars") and page.inner_text("#bars-note") == "The test images have no labels."
    assert page.locator("#order option:disabled").get_attribute("value") == "digit"
    assert "test image 9" in page.inner_text("#input-note")


# Methods and data sets of one's own


class Fourth(common.Autoencoder):
    """A method as somebody might write it."""

    method = "fourth"
    hyperparameters = common.hyperparameters({}, hidden=16, epochs=2, batch_size=100, precision="float32")

    def initialise(self):
        self.encoder.weight.normal_(std=0.1)
        self.dictionary.copy_(self.encoder.weight)

    def activation(self, hidden):
        return torch.where(hidden > 0, hidden, 0)

    def penalty(self, hidden, code):
        return 1e-4 * code.square().sum(dim=1).mean()


class Linear(Fourth):
    """What it draws may be below 0 and above 1."""

    active_above = 0.25
    loss_name = "MSE"

    def squash(self, output):
        return output

    def reconstruction_loss(self, output, images):
        return (output - images).square().mean()


class Tanh(Linear):
    """What no page has heard of."""

    def activation(self, hidden):
        return hidden.tanh()


class Bent(Tanh):
    def squash(self, output):
        return output.sin()


@pytest.fixture(scope="module")
def write_own(small):
    """write_own(folder, cls, name=..., data=...): a trained model of a class, with its page's file."""

    def write(folder, cls, name="own", data=small):
        model = cls(dataset=data.name)
        common.train(model, data)
        model.requires_grad_(False).name = name
        report = common.evaluate(model, data.test_images, data.test_labels)
        common.write_explorer(model, report, common.first_images(data.test_images, data.test_labels), folder)
        return model

    return write


@pytest.mark.parametrize(("cls", "squash"), [(Fourth, "sigmoid"), (Linear, "identity")])
@torch.no_grad()
def test_a_fourth_method(visit, write_own, digits, folder, cls, squash):
    model = write_own(folder, cls)
    content = content_of(folder, "own")
    assert (content["activation"], content["k"], content["squash"]) == ("relu", None, squash)
    page = visit("own", folder)
    outside = 0
    for digit in (0, 2, 7):
        press_digit(page, digit)
        view = look(page)
        reconstruction, code = (values[0] for values in model(digits[digit : digit + 1]))
        assert torch.allclose(torch.tensor(view["code"]), code, atol=2e-3)
        assert torch.allclose(torch.tensor(view["image"]), reconstruction, atol=2e-3)
        assert view["error"] == pytest.approx((reconstruction - digits[digit]).square().mean().item(), rel=2e-3)
        assert view["active"] == (code > model.active_above).sum()
        outside += ((reconstruction < 0) | (reconstruction > 1)).sum()
    assert (outside > 0) == (squash == "identity")
    assert f"code above {model.active_above:g}" in page.inner_text("#active-label") and not page.is_visible("#k")


@pytest.mark.parametrize(("cls", "lacking"), [(Tanh, "activation"), (Bent, "activation and squash")])
def test_a_method_that_the_page_cannot_show(write_own, folder, capsys, cls, lacking):
    model_file(folder, "own").write_text("what it was before")
    write_own(folder, cls)
    assert not model_file(folder, "own").exists()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith(
        f": own is not in the page, which has no function like its {lacking}; its pictures are complete"
    )


@torch.no_grad()
def test_functions_are_found_by_comparing(digits, shipped):
    model = common.load_pretrained(shipped)
    content = content_of(SHIPPED_PAGE, shipped)
    found = common.functions_of_page(model, digits)
    assert found == {key: content[key] for key in ("activation", "k", "squash")}
    assert (found["k"], model.active_above) == (model.config.get("k"), content["active_above"])


def test_functions_that_the_images_do_not_tell_apart():
    """An output between 0 and 1 is the same when it is cut; and where few units are above 0, k does not matter."""
    values = torch.tensor([[0.2, 0.7, 0.5]])
    named = {"clip": lambda x: x.clamp(0, 1), "identity": lambda x: x}
    assert [common.name_of(function, named, values) for function in named.values()] == list(named)
    assert common.name_of(torch.tanh, named, values) is None
    model = METHODS["sparse_ksparse"].build(hidden=8, k=3).eval().requires_grad_(False)
    model.encoder.bias.fill_(-5)
    assert common.functions_of_page(model, torch.rand(4, 784)) == {"activation": "top_k", "k": 3, "squash": "clip"}


def test_two_data_sets(visit, write_own, small, test_set, tmp_path):
    """MNIST, and MNIST upside down."""
    turned_images = test_set.test_images.view(-1, 28, 28).flip(1).reshape(-1, 784)
    write_own(tmp_path, Fourth, "upright")
    write_own(tmp_path, Fourth, "turned", small._replace(test_images=turned_images[:199], name="upside-down"))
    common.write_page(tmp_path, test_set)
    common.write_page(tmp_path, test_set._replace(test_images=turned_images, name="upside-down"))
    first = {"upright": test_set.test_images[0].tolist(), "turned": turned_images[0].tolist()}

    def choose(name):
        page.select_option("#models", name)
        page.wait_for_function("name => explorer.model?.name === name && explorer.testImages", arg=name)
        assert page.evaluate("[...explorer.testImages.subarray(0, 784)]") == first[name]
        return look(page)["input"]

    page = visit("turned", tmp_path)
    turned = choose("turned")
    upright = choose("upright")
    assert torch.tensor(upright).view(28, 28).flip(0).flatten().tolist() == turned and pressed_digit(page) == "2"
    press_digit(page, 3)
    assert choose("turned") == turned and pressed_digit(page) == "2"
    page.keyboard.press("Control+z")
    assert look(page)["input"] == upright and page.locator("#digits [aria-pressed=true]").count() == 0
    draw(page, (0.5, 0.2), (0.5, 0.8))
    drawing = look(page)["input"]
    assert choose("upright") == drawing  # what one draws stays

    (tmp_path / "images_upside-down.js").unlink()
    page = visit("turned", tmp_path, missing=["images_upside-down.js"])
    page.wait_for_function("document.querySelector('#no-examples').textContent")
    assert "images_upside-down.js cannot be read (it is not beside this page)" in page.inner_text("#no-examples")
    choose("upright")
    assert page.is_hidden("#no-examples") and page.is_visible("#strongest button")


def test_data_sets_of_other_sizes(visit, write_own, small, folder):
    """Few images, and more than two bytes with a sign can count."""
    blank = torch.zeros(40_000, 784, dtype=torch.uint8)
    many = torch.cat([small.test_images[:100], blank, small.test_images[100:]])
    for name, images in (("few", small.test_images), ("many", many)):
        data = small._replace(test_images=images, test_labels=None, name=name)
        model = write_own(folder, Fourth, name, data)
        common.write_page(folder, data)
        page = visit(name, folder)
        page.wait_for_function("explorer.testImages")
        assert page.evaluate("explorer.testImages.length") == images.numel()
        strongest = torch.tensor(page.evaluate("[...explorer.model.strongest]")).view(-1, 12)
        expected = common.evaluate(model, images, None).examples.strongest
        assert strongest.equal(expected) and page.is_hidden("#no-examples") and page.is_visible("#strongest button")
        number = int(page.locator("#strongest button").first.get_attribute("data-image"))
        page.locator("#strongest button").first.click()
        assert torch.tensor(look(page)["input"]).equal(common.to_float(images[number]))
    assert expected.max() > 32_767

    common.write_page(folder, data._replace(test_images=small.test_images))
    page = visit("many", folder)
    page.wait_for_function("document.querySelector('#no-examples').textContent")
    assert "images_many.js cannot be read (it lacks some on which " in page.inner_text("#no-examples")
    assert page.is_hidden("#strongest")
