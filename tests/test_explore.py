"""The page, outputs/shipped/explore/, in a real browser, mostly opened from disk, against what Python says of the same
images."""

import base64
import io
import json
import math
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest
import torch
from conftest import METHODS, ROOT
from PIL import Image

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
def contexts(browser):
    """One for a mouse, by False, and one for fingers, by True."""
    contexts = {has_touch: browser.new_context(has_touch=has_touch) for has_touch in (False, True)}
    yield contexts
    for context in contexts.values():
        context.close()


@pytest.fixture(scope="module")
def pages():
    """The pages of the shipped models that stay open, since loading one takes a while, by context."""
    return {}


@pytest.fixture(scope="module")
def faults():
    """What pages have said in the console, raised, and asked for besides files."""
    return []


RENEW = """([address, unit]) => {
    for (let i = 0; i < 101; i++) undo.click();
    document.activeElement.blur();
    document.querySelectorAll("details").forEach(part => { part.open = false; });
    Object.assign(explorer.state, {
        fit: true, noise: 0, k: null, kept: Infinity, isOpen: false, isDifference: false,
        turned: new Map(), unit, pointed: null, order: "frequency", likeTo: null,
    });
    scrollTo(0, 0);
    spoken.textContent = "";
    location.replace(address);
    fit.checked = true;
    fit.dispatchEvent(new Event("change"));
}"""


@pytest.fixture
def visit(contexts, pages, faults):
    """visit(address, folder=..., ...): the page as it is when it has been opened, from a folder, or from a `server`. A
    page of the shipped models that is open already is put back to that, unless it has to be `fresh`. Afterwards: it has
    said nothing in the console, raised nothing, and asked for nothing but files, or what that server has. A missing
    file is the one thing of which a browser always tells the console."""
    opened, allowed = [], []
    faults.clear()

    def visit(
        address="",
        folder=SHIPPED_PAGE,
        missing=(),
        server=None,
        fresh=False,
        has_touch=False,
        viewport=(1400, 900),
        **media,
    ):
        if (folder / "models.js").is_file() and not (missing or folder == SHIPPED_PAGE):
            common.write_script(folder / "models.js", sorted(path.stem for path in (folder / "models").glob("*.js")))
        allowed.extend(f"{file} net::ERR_FILE_NOT_FOUND" for file in missing)
        size, stays = {"width": viewport[0], "height": viewport[1]}, folder == SHIPPED_PAGE and not (server or fresh)
        media = {"color_scheme": "light", "forced_colors": "none", "reduced_motion": "no-preference", **media}
        is_open = stays and has_touch in pages
        page = pages[has_touch] if is_open else contexts[has_touch].new_page()
        page.set_viewport_size(size)
        page.emulate_media(media="screen", **media)
        if not is_open:
            open_page(page, server or (folder / "index.html").as_uri(), address)
            if not stays:
                opened.append(page)
                return page
            pages[has_touch] = page
        name, _, unit = address.partition("/")
        unit = int(unit) if unit else None
        page.evaluate(RENEW, [f"#{address}", unit])
        wait(
            page,
            "([name, unit]) => explorer.model?.name === name && explorer.view && explorer.state.unit === unit",
            arg=[name or FIRST, unit],
        )
        return page

    def open_page(page, place, address):
        page.add_init_script(WITHOUT_FRAMES)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(describe(message)))
        page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
        known = ("file://" if place.startswith("file://") else place, "data:")
        page.on("request", lambda r: r.url.startswith(known) or faults.append(f"request: {r.url}"))
        page.goto(place + (f"#{address}" if address else ""))
        page.wait_for_function("explorer.view || document.querySelector('#message').textContent")

    def describe(message):
        file = message.location.get("url", "").rsplit("/", 1)[-1]
        return f"{file} {message.text.rsplit(' ', 1)[-1]}" if "ERR_FILE" in message.text else f"console: {message.text}"

    yield visit
    for page in opened:
        page.close()
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


# The page draws when the browser is ready for a frame, 60 times a second: tests would mostly wait for that.
WITHOUT_FRAMES = "globalThis.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()))"
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
SUM = """() => {
    const { model, view } = explorer, output = model.average.slice();
    const add = (unit, times) => output.forEach((_, pixel) => {
        output[pixel] += times * model.dictionary[784 * unit + pixel];
    });
    const isTerm = new Set(view.terms), others = [...view.whole.keys()].filter(unit => !isTerm.has(unit));
    for (const unit of view.terms) add(unit, view.whole[unit] - model.medianCode[unit]);
    for (const unit of others) add(unit, view.whole[unit] - model.medianCode[unit]);
    const away = output.map((value, pixel) => Math.abs(model.squash(value) - view.image[pixel]));
    const size = unit => Math.abs(view.whole[unit] - model.medianCode[unit]) * model.norms[unit];
    return { away: Math.max(...away), other: Math.max(0, ...others.map(size)), largest: size(view.ranked[0]) };
}"""


PLAIN = "(_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value"


def values_of(page, expression):
    """What a JavaScript expression is, typed arrays as lists. (As text, since Playwright takes long for lists.)"""
    return json.loads(page.evaluate(f"JSON.stringify({expression}, {PLAIN})"))


def wait(page, condition, arg=None):
    """Until a condition holds, and the page has been drawn since."""
    page.wait_for_function(condition, arg=arg)
    page.evaluate(SETTLED)


def look(page):
    """What the page shows, once it has been drawn."""
    view = page.evaluate(
        f"""{SETTLED}.then(() => JSON.stringify({{
            ...explorer.view, shown_error: error.innerText, shown_active: document.getElementById("code-note").innerText
        }}, {PLAIN}))"""
    )
    view = json.loads(view)
    view["shown_error"] = float(view["shown_error"])
    view["shown_active"] = int(view["shown_active"].split(" of ")[0].split()[-1])
    return view


def draw(page, *points):
    """A stroke through points of the drawing area, whose corners are (0, 0) and (1, 1)."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
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
    wait(page, "[...models.children].every(tile => /error/.test(tile.innerText) && tile.ariaBusy === 'false')")


def pressed_models(page):
    return page.locator("#models [aria-pressed=true]").evaluate_all("tiles => tiles.map(tile => tile.dataset.name)")


def open_part(page, part):
    """Open "#more" or "#all"."""
    page.evaluate("part => { document.querySelector(part).open = true; }", part)
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


def painted(page, canvas):
    """Whether a canvas has more than one colour."""
    return page.locator(canvas).evaluate(
        """canvas => new Set(new Uint32Array(
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 1"""
    )


def pixels_of(page, canvas):
    """The colours [n, 3] of a canvas."""
    png = page.locator(canvas).first.evaluate("canvas => canvas.toDataURL().split(',')[1]")
    return torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))).int().flatten(0, 1)


def tile(page, index=0):
    """A term of the sum."""
    return page.locator("#sum button[data-unit]:visible").nth(index)


def turn(page, index, times):
    """Choose a term of the sum, and turn it."""
    tile(page, index).click()
    page.evaluate(SETTLED)
    slide(page, "#dial", times)


# Against Python


@torch.no_grad()
def test_code_sum_and_redrawing_agree_with_python(visit, digits, shipped):
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
        assert view["shown_error"] == pytest.approx(view["error"], abs=1e-4)
        assert torch.allclose(torch.tensor(view["image"]), reconstruction[digit], atol=0.02)
        assert page.evaluate(SUM)["away"] < 1e-4
    assert same >= 0.95 * either
    parts = page.evaluate(SUM)
    assert parts["other"] <= 0.1 * parts["largest"] and set(ours.nonzero()[:, 0].tolist()) <= set(view["terms"])

    if page.is_visible("#rest"):
        page.click("#rest")
    view = look(page)
    numbers = page.locator("#sum button[data-unit]:visible").evaluate_all(
        "tiles => tiles.map(tile => [Number(tile.dataset.unit), tile.children[0].textContent])"
    )
    rest = values_of(page, "explorer.model.medianCode")
    assert [unit for unit, _ in numbers] == view["terms"] == view["ranked"][: view["count"]]
    for unit, text in numbers:
        assert text.endswith(" ×")
        shown = float(text[:-2].replace("+ ", "").replace("− ", "-"))
        assert shown == pytest.approx(view["code"][unit] - rest[unit], abs=0.006 if abs(shown) < 9.9 else 0.06)
    difference = page.evaluate(
        """() => { const { model, view } = explorer, image = explorer.decode(explorer.encode(view.input, model), model);
                   return Math.max(...image.map((value, pixel) => Math.abs(value - view.image[pixel]))); }"""
    )
    assert difference < 1e-4
    assert page.inner_text("#typical") == f"typical of test digits: {content_of(SHIPPED_PAGE, shipped)['mse']:.4f}"


@pytest.mark.parametrize("name", ["sparse_l1", "sparse_kl", "sparse_ksparse_k25"])
@torch.no_grad()
def test_kept_and_turned_units_agree_with_python(visit, digits, name):
    model = common.load_pretrained(name)
    page = visit(name)
    press_digit(page, 2)
    view = look(page)
    rest = torch.tensor(values_of(page, "explorer.model.medianCode"), dtype=torch.float32)
    code = model.encode(digits[2:3])[0]
    size = (code - rest).abs() * model.dictionary.norm(dim=1)
    chosen = size.argsort(descending=True)
    average = model.decode(rest[None])[0]

    slide(page, "#kept", 0)
    view = look(page)
    assert torch.allclose(torch.tensor(view["image"]), average, atol=0.01)
    assert page.inner_text("#kept-count") == "the average alone"
    slide(page, "#kept", 8)
    turn(page, 1, 0)
    turn(page, 0, -1)
    off, turned = chosen[1].item(), chosen[0].item()
    idle = (code <= model.active_above).nonzero()[3].item()
    go(page, f"{name}/{idle}?digit=2&kept=8&turned={off}:0,{turned}:-1")
    wait(page, "unit => explorer.state.unit === unit", arg=idle)
    assert page.evaluate("[...explorer.state.turned.keys()].sort()") == sorted([off, turned], key=str)
    assert "Not active here" in page.inner_text("#unit-note")
    slide(page, "#dial", 2)
    view = look(page)
    all_code = common.encode_all(model, common.load_data(train_count=0).test_images)[:, idle]
    typical = all_code[all_code > model.active_above].mean().item()
    width = (all_code.max().item() - model.active_above) / 20
    assert view["whole"][idle] == pytest.approx(2 * typical, abs=width)

    expected = rest.clone()
    expected[chosen[:8]] = code[chosen[:8]]
    expected[[off, turned, idle]] = torch.tensor([0, -code[turned].item(), view["whole"][idle]])
    image = model.decode(expected[None])[0]
    assert torch.allclose(torch.tensor(view["image"]), image, atol=0.01)
    assert view["error"] == pytest.approx((image - digits[2]).square().mean().item(), rel=0.02)
    assert page.locator("#sum .turned:visible").count() == 3  # also the one that is not active, or left out
    assert page.locator("#sum .left-out:visible").count() == page.locator("#sum [data-unit]:visible").count() - 9
    page.click("#reset")
    slide(page, "#kept", page.get_attribute("#kept", "max"))
    assert torch.allclose(torch.tensor(look(page)["image"]), model.decode(code[None])[0], atol=0.01)
    assert page.locator("#sum .turned:visible").count() == 0


@torch.no_grad()
def test_k_is_a_slider_and_stays_when_the_model_changes(visit, digits):
    model = common.load_pretrained("sparse_ksparse_k25")
    page = visit("sparse_ksparse_k25")
    open_part(page, "#more")
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
    choose_model(page, "sparse_l1")
    assert not page.is_visible("#k") and pressed_digit(page) == "7"
    choose_model(page, "sparse_ksparse_k50")
    assert look(page)["active"] == 12 and page.inner_text("#k-note") == "12, trained with 50"
    choose_model(page, "sparse_ksparse_k25")
    slide(page, "#k", page.locator("#k").get_attribute("max"))
    assert page.evaluate("explorer.state.k") == 1000
    slide(page, "#k", 24)
    assert look(page)["error"] == as_trained and page.evaluate("explorer.state.k") is None


@torch.no_grad()
def test_every_model_on_one_drawing(visit):
    """Live, with what Python says of it."""
    page = visit("sparse_l1")
    draw(page, (0.3, 0.2), (0.7, 0.2), (0.4, 0.85))
    image = torch.tensor(look(page)["input"])[None]
    wait_for_models(page)
    told = dict(
        page.locator("#models button").evaluate_all("all => all.map(tile => [tile.dataset.name, tile.innerText])")
    )
    assert list(told) == list(NAMES) and pressed_models(page) == ["sparse_l1"]
    for name, text in told.items():
        model = common.load_pretrained(name)
        redrawn, code = model(image)
        error, active = float(text.split("error ")[1].split()[0]), int(text.split(" active")[0].split()[-1])
        assert error == pytest.approx((redrawn - image).square().mean().item(), abs=3e-4), name
        assert active == pytest.approx((code > model.active_above).sum().item(), abs=2), name
    assert all(painted(page, f"#models button:nth-child({n}) canvas") for n in range(1, 8))
    slide(page, "#kept", 7)
    choose_model(page, "sparse_kl")
    view = look(page)
    assert view["input"] == image[0].tolist() and view["kept"] == 7 and pressed_models(page) == ["sparse_kl"]


# Drawing


def test_a_stroke_undo_and_clear(visit):
    page = visit()
    digit = look(page)
    draw(page, (0.5, 0.2), (0.5, 0.8))
    one = look(page)
    assert one["input"] != digit["input"] and one["active"] == 25
    assert all(painted(page, canvas) for canvas in ("#pad", "#input", "#image", "#ribbon", "#average"))
    values = one["input"]
    assert max(values) > 0.95 and sum(0.05 < value < 0.95 for value in values) > 20  # the brush is soft
    draw(page, (0.3, 0.5), (0.7, 0.5))
    cross = look(page)
    assert sum(cross["input"]) > sum(one["input"])
    page.click("#undo")
    assert look(page)["input"] == one["input"]

    ids = ("code", "sum", "others", "all")  # nothing jumps
    tops = "ids => ids.map(id => document.getElementById(id).getBoundingClientRect().top)"
    before = page.evaluate(tops, ids)
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    page.evaluate(SETTLED)
    assert page.evaluate(tops, ids) == before
    assert page.is_disabled("#clear") and page.evaluate("document.activeElement.id") == "pad"
    assert not painted(page, "#pad") and not painted(page, "#image") and not page.evaluate("explorer.view")
    assert page.inner_text("#error") == "–" and "draw, and see" in page.inner_text("#code-note")
    assert page.locator("#sum button:visible").count() == 0 and painted(page, "#average") and page.is_disabled("#play")
    assert "here" not in page.inner_text("#unit-note") and page.is_disabled("#dial") and painted(page, "#unit-draws")
    for letter, code in (("z", "KeyZ"), ("я", "KeyZ")):  # also with another alphabet
        page.evaluate(
            "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', "
            "{ key, code, ctrlKey: true, bubbles: true }))",
            [letter, code],
        )
        page.evaluate(SETTLED)
    assert look(page)["input"] == digit["input"] and page.is_disabled("#undo")


def test_ink_stays_under_a_stroke_beside_it(visit):
    """The soft edge of the second does not wash out the first."""
    page = visit()
    page.click("#clear")
    draw(page, (0.5, 0.2), (0.5, 0.8))
    page.evaluate(SETTLED)
    before = pixels_of(page, "#pad")
    draw(page, (0.54, 0.2), (0.54, 0.8))
    page.evaluate(SETTLED)
    after = pixels_of(page, "#pad")
    assert (after <= before).all() and (after < before).any()


def test_fit_like_mnist(visit):
    page = visit()
    open_part(page, "#more")
    draw(page, (0.1, 0.1), (0.9, 0.1), (0.9, 0.95))  # a 7 whose centre of mass lies in a corner
    image = torch.tensor(look(page)["input"]).view(28, 28)
    lit = (image > 0.5).nonzero()
    assert (lit.amax(dim=0) - lit.amin(dim=0) + 1).max() >= 19  # no ink is lost
    assert (image[0] + image[-1] + image[:, 0] + image[:, -1] < 0.5).all()
    page.click("#clear")
    draw(page, (0.1, 0.1), (0.2, 0.4), (0.12, 0.4))
    image = torch.tensor(look(page)["input"]).view(28, 28)
    lit = (image > 0.5).nonzero()
    height, width = (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist()
    assert 19 <= height <= 21 and width < 16
    for axis in (0, 1):  # counted from 0, the middle is pixel 14, as in MNIST
        assert (image.sum(1 - axis) * torch.arange(28)).sum() / image.sum() == pytest.approx(14, abs=0.3)
    assert re.search(r"fitted, enlarged × [12]\.\d$", page.inner_text("#input-note"))
    page.uncheck("#fit")
    image = torch.tensor(look(page)["input"]).view(28, 28)
    assert image[:14, :8].sum() > 0.99 * image.sum() > 0 and "as it stands" in page.inner_text("#input-note")
    press_digit(page, 4)
    digit = look(page)["input"]
    page.check("#fit")
    assert look(page)["input"] == digit


def test_an_image_is_dropped_or_pasted(visit):
    """Dark on light or light on dark, it becomes the drawing; undo has the one before."""
    page = visit()
    before = look(page)["input"]
    bring = """([kind, paper, ink]) => new Promise(done => {
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
    for kind, paper, ink in (("drop", "#eee", "#222"), ("paste", "#113", "#fd8")):
        assert page.evaluate(bring, [kind, paper, ink]) == (kind == "drop")
        wait(page, "old => explorer.view.input.some((v, i) => v !== old[i])", arg=before)
        image = torch.tensor(look(page)["input"]).view(28, 28)
        lit = (image > 0.5).nonzero()
        height, width = (lit.amax(dim=0) - lit.amin(dim=0) + 1).tolist()
        assert 19 <= height <= 21 and 2 <= width <= 4 and image[:, :8].max() < 0.1
        page.click("#undo")
        assert look(page)["input"] == before
    page.evaluate(bring, ["drop", "#fff", ""])
    wait(page, "message.textContent")
    assert page.inner_text("#message") == "one.png is no image that this browser can read."
    assert look(page)["input"] == before


@torch.no_grad()
def test_noise(visit, digits):
    page = visit("sparse_ksparse_k25")
    open_part(page, "#more")
    press_digit(page, 0)
    slide(page, "#noise", 0.4)
    view = look(page)
    noise = torch.tensor(view["input"]) - digits[0]
    assert 0.05 < noise.square().mean() < 0.11 and 0 <= min(view["input"]) <= max(view["input"]) <= 1
    assert torch.tensor(view["clean"]).equal(digits[0])
    model = common.load_pretrained("sparse_ksparse_k25")
    expected = (model(torch.tensor(view["input"])[None])[0][0] - digits[0]).square().mean().item()
    assert view["error"] == pytest.approx(expected, rel=0.03) and expected < 0.6 * noise.square().mean()
    shown = f"0.40: error {view['error']:.4f}, before {noise.square().mean():.4f}"
    assert page.inner_text("#noise-note") == shown
    slide(page, "#noise", 0)
    assert torch.tensor(look(page)["input"]).equal(digits[0])


def test_the_picture_is_saved(visit, tmp_path):
    page = visit()
    open_part(page, "#more")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    picture = Image.open(tmp_path / "saved.png")
    assert download.value.suggested_filename == f"{FIRST}.png"
    assert picture.width > 800 and len(picture.convert("L").getcolors()) > 20


# The sum


def test_a_unit_is_turned_and_pointed_at(visit):
    page = visit()
    whole, name = look(page), tile(page).get_attribute("aria-label")
    assert name == f"Unit {whole['terms'][0]}: + {whole['code'][whole['terms'][0]]:.2f} times"
    tile(page).click()
    assert look(page)["image"] == whole["image"] and tile(page).get_attribute("aria-pressed") == "true"
    page.click("#off")
    less = look(page)
    assert less["error"] > whole["error"] and less["code"] == whole["code"]
    assert tile(page).get_attribute("aria-label") == name.split(":")[0] + ": + 0.00 times, turned × 0"
    assert page.inner_text("#off") == "Turn back" and page.inner_text("#dial-note") == "× 0 = 0.00"
    tile(page, 1).click()
    assert look(page)["image"] == less["image"] and page.inner_text("#off") == "Off"
    tile(page, 0).click()
    page.evaluate(SETTLED)
    page.click("#off")
    assert look(page)["image"] == whole["image"]
    turn(page, 2, 3)
    more = look(page)
    unit = whole["terms"][2]
    assert more["terms"] == whole["terms"] and more["whole"][unit] == pytest.approx(3 * whole["code"][unit], rel=1e-3)
    for digit in range(10):  # it stays in sight
        press_digit(page, digit)
        look(page)
        assert "turned × 3" in page.get_by_role("button", name=f"Unit {unit}:").get_attribute("aria-label")
    page.click("#reset")
    press_digit(page, 2)
    assert look(page)["image"] == whole["image"]

    grey = pixels_of(page, "#image")
    tile(page, 2).hover()
    page.evaluate(SETTLED)
    assert (grey - pixels_of(page, "#image")).abs().sum(dim=1).gt(60).sum() > 10
    page.mouse.move(1, 1)
    page.evaluate(SETTLED)
    assert pixels_of(page, "#image").equal(grey)
    page.check("#difference")
    view = look(page)
    away = torch.tensor(view["image"]) - torch.tensor(view["input"])
    shades = (
        pixels_of(page, "#image").float().mean(dim=1)
    )  # too much ink is darker than the ground, too little brighter
    ground = shades[away.abs() < 0.01].median()
    assert shades[away > 0.15].max() < ground < shades[away < -0.15].min()


def test_the_sum_has_all_terms(visit):
    page = visit("sparse_l1", viewport=(800, 1000))
    view = look(page)
    shown = "[...document.querySelectorAll('#sum [data-unit]:not([hidden])')].length"
    assert page.evaluate(shown) == 14 and page.inner_text("#rest") == f"+ {view['count'] - 14} more"
    errors = []
    for position in (0, 10, 25, int(page.get_attribute("#kept", "max"))):
        slide(page, "#kept", position)
        view = look(page)
        errors.append(view["error"])
        assert view["curve"][position] == pytest.approx(view["error"])
    assert errors == sorted(errors, reverse=True) and errors[0] > 10 * errors[-1]
    assert page.inner_text("#kept-count") == f"all {view['count']}" and view["count"] < 130
    points = page.get_attribute("#curve-line", "points").split()
    assert len(points) == int(page.get_attribute("#kept", "max")) + 1 == len(view["curve"])
    page.locator("#rest").focus()
    page.keyboard.press("Enter")
    page.evaluate(SETTLED)
    assert page.evaluate("document.activeElement.id") == "rest"
    assert page.evaluate(shown) == view["count"] and page.inner_text("#rest") == "show fewer"
    slide(page, "#kept", 20)
    assert page.locator("#sum .left-out").count() == view["count"] - 20


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_sum_is_played(visit, motion):
    page = visit("sparse_ksparse_k5", reduced_motion=motion)
    whole = look(page)
    slide(page, "#kept", 3)
    page.evaluate(
        """() => {
            globalThis.seen = [];
            const watch = () => seen.push(explorer.view.kept) && explorer.view.kept < 5 && setTimeout(watch, 5);
            watch();
        }"""
    )
    page.click("#play")
    wait(page, "!explorer.state.isPlaying")
    seen = page.evaluate("seen")
    assert seen == sorted(seen) and (seen[0], seen[-1]) == (3, 5)
    parts = [kept for kept in seen if kept != int(kept)]
    assert not parts if motion == "reduce" else len(parts) > 20
    assert look(page)["image"] == whole["image"] and page.inner_text("#play") == "▶ Play"
    if motion == "reduce":
        return
    page.click("#play")
    page.wait_for_function("explorer.state.isPlaying && explorer.view.kept > 0 && explorer.view.kept < 5")
    page.click("#play")
    kept = look(page)["kept"]
    assert kept == int(kept) < 5 and not page.evaluate("explorer.state.isPlaying")
    page.click("#play")
    draw(page, (0.3, 0.3), (0.6, 0.6))  # who draws, does not play
    assert not page.evaluate("explorer.state.isPlaying")


# What a unit stands for


def test_a_units_card(visit):
    page = visit("sparse_ksparse_k25")
    look(page)
    tile(page, 3).click()
    unit = look(page)["terms"][3]
    assert page.inner_text("#unit-title") == f"Unit {unit}"
    assert painted(page, "#unit-draws") and painted(page, "#unit-seeks")
    frequency = page.evaluate("unit => explorer.model.frequency[unit]", unit)
    assert f"Active on {100 * frequency:.1f} % of the test images." in page.inner_text("#unit-note")
    assert f"Not active on {100 - 100 * frequency:.1f} % of the test images" in page.inner_text("#histogram-title")
    counts = page.evaluate("u => Array.from(explorer.model.histogram.subarray(20 * u, 20 * u + 20))", unit)
    assert sum(counts) == round(10_000 * frequency)
    heights = page.locator("#histogram rect").evaluate_all("bars => bars.map(bar => bar.height.baseVal.value)")
    assert heights == pytest.approx([70 * count / max(counts) for count in counts], abs=0.01)
    assert ", ".join(map(str, counts)) in page.get_attribute("#histogram", "aria-label")
    shares = page.evaluate("u => Array.from({length: 10}, (_, d) => explorer.model.digits[d * 1000 + u])", unit)
    heights = page.locator("#bars i").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.backgroundSize.split(' ')[1]))"
    )
    assert heights == pytest.approx([100 * share / max(shares) for share in shares], abs=0.1)
    percents = [int(text.rstrip("%")) for text in page.locator("#bars small").all_inner_texts()]
    assert percents == pytest.approx([100 * share / sum(shares) for share in shares], abs=0.6)
    assert f"mean code: {shares.index(max(shares))}, " in page.get_attribute("#bars", "aria-label")
    page.evaluate("explorer.state.unit = null")

    # While the pen is down it stays on its unit.
    press_digit(page, 1)
    page.evaluate(SETTLED)
    first = page.inner_text("#unit-title")
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    for x in (120, 200):
        page.mouse.move(box["x"] + x, box["y"] + 40, steps=3)
        page.evaluate(SETTLED)
        assert page.inner_text("#unit-title") == first
    page.mouse.up()
    strongest = look(page)["ranked"][0]
    assert page.inner_text("#unit-title") == f"Unit {strongest}"


@pytest.fixture(scope="module")
def test_set():
    return common.load_data(train_count=0)


@torch.no_grad()
def test_examples_agree_with_python(visit, test_set, shipped):
    name = shipped
    assert model_file(SHIPPED_PAGE, name).stat().st_size < 5_000_000
    model = common.load_pretrained(name)
    code = common.encode_all(model, test_set.test_images)
    page = visit(name)
    strongest, strongest_code, middling, middling_code, frequency = (
        torch.tensor(values_of(page, f"explorer.model.{key}"))
        for key in ("strongest", "strongestCode", "middling", "middlingCode", "frequency")
    )
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

    wait(page, "explorer.testImages")
    for unit in (0, 500):
        page.evaluate("address => location.replace(address)", f"#{name}/{unit}")
        wait(page, "unit => document.querySelector('#unit-title').textContent === `Unit ${unit}`", arg=unit)
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


def test_the_page_has_the_test_images(visit, test_set):
    page = visit("sparse_l1/267")
    wait(page, "explorer.testImages")
    numbers = [0, 1, 77, 5000, 9999]
    found = page.evaluate("ns => ns.map(n => [...explorer.testImages.subarray(784 * n, 784 * n + 784)])", numbers)
    assert torch.tensor(found, dtype=torch.uint8).equal(test_set.test_images[numbers])
    total = page.evaluate("explorer.testImages.reduce((sum, value) => sum + value, 0)")
    assert total == test_set.test_images.long().sum()

    look(page)  # what a unit explains is marked
    number, picture = page.evaluate(
        "[explorer.model.strongest[12 * 267], [...explorer.model.dictionary.subarray(784 * 267, 784 * 268)]]"
    )
    red, _, blue = pixels_of(page, "#strongest canvas").T
    image, picture = common.to_float(test_set.test_images[number]), torch.tensor(picture)
    drawn = (image > 0.9) & (picture > 0.5 * picture.max())
    rest = (image > 0.9) & (picture.abs() < 0.02 * picture.max())
    assert drawn.any() and rest.any()
    assert (red - blue)[drawn].min() > 80 > 30 > (red - blue)[rest].abs().max()


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
        "frequency": -frequency,
        "digit": digits.argmax(dim=0) * 1000.0 - digits.amax(dim=0),
        "size": -(largest.view(-1, 12)[:, 0] - rest) * norms,
    }
    assert page.inner_text("#all-title") == "All 512 units"
    for order, key in keys.items():
        page.select_option("#order", order)
        page.evaluate(SETTLED)
        headings = page.locator("#groups h3:visible").all_inner_texts()
        assert headings == ([f"most active on {digit}" for digit in range(10)] if order == "digit" else [])
        found = []
        page.locator("#groups").focus()
        for keys_pressed in (["Home"], *[["ArrowRight"]] * 3, ["End"], ["ArrowLeft"]):
            for pressed in keys_pressed:
                page.keyboard.press(pressed)
            page.evaluate(SETTLED)
            found.append(page.evaluate("explorer.state.unit"))
        places = [0, 1, 2, 3, 511, 510]
        assert torch.allclose(key[found], key.sort().values[places], atol=1e-3), order
        if order == "likeness":
            assert found[0] == 14 and "likeness to unit 14" in page.inner_text("#order")

    page.select_option("#order", "frequency")  # up and down, and a click
    page.evaluate(SETTLED)
    columns = page.evaluate("Math.floor(groups.clientWidth / 40)")
    by_frequency = frequency.argsort(descending=True, stable=True).tolist()
    page.locator("#groups").focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
        page.evaluate(SETTLED)
    assert frequency[page.evaluate("explorer.state.unit")] == frequency[by_frequency[columns + 1]]
    page.locator("#groups canvas").click(position={"x": 40 * 5 + 15, "y": 40 * 2 + 15})
    look(page)
    unit = page.evaluate("explorer.state.unit")
    assert frequency[unit] == frequency[by_frequency[2 * columns + 5]]
    assert page.inner_text("#unit-title") == f"Unit {unit}" and painted(page, "#groups canvas")
    mark, canvas = (page.locator(f"#groups {kind}").first.bounding_box() for kind in (".mark", "canvas"))
    assert mark["x"] - canvas["x"] == pytest.approx(200, abs=1) and mark["y"] - canvas["y"] == pytest.approx(80, abs=1)
    assert mark["width"] >= 40


def test_the_address_keeps_what_was_chosen(visit):
    page = visit("sparse_l1/359", fresh=True)
    look(page)
    assert page.inner_text("#unit-title") == "Unit 359" and pressed_models(page) == ["sparse_l1"]
    press_digit(page, 9)  # the chosen unit stays, and one sees what it does on another image
    slide(page, "#kept", 12)
    turn(page, 2, 2.5)
    view = look(page)
    unit = view["terms"][2]
    wait(page, "location.hash.includes('turned')")
    address = page.url.partition("#")[2]
    assert address == f"sparse_l1/{unit}?digit=9&kept=12&turned={unit}:2.5"
    again = visit(address, fresh=True)
    assert look(again)["image"] == view["image"] and pressed_digit(again) == "9"
    again.close()
    wait(page, "explorer.testImages")
    number = int(page.locator("#strongest button").first.get_attribute("data-image"))
    go(page, f"sparse_ksparse_k10?test={number}&k=17")
    wait(page, "explorer.model?.k === 10")
    view = look(page)
    assert view["active"] == 17 and f"test image {number}" in page.inner_text("#input-note")
    assert page.evaluate("[explorer.state.unit, explorer.state.turned.size, explorer.state.kept]") == [
        None,
        0,
        math.inf,
    ]

    choose_model(page, "sparse_kl")
    wait(page, "location.hash.startsWith('#sparse_kl')")
    page.evaluate("location.hash = '#sparse_kl/512'")
    wait(page, "message.textContent")
    assert page.inner_text("#message") == "sparse_kl has no unit 512: its units are 0 to 511"
    tile(page).click()
    page.evaluate(SETTLED)
    assert not page.is_visible("#message")
    for unit in ("-1", "9e9", "x"):
        go(page, f"sparse_kl/{unit}")
        wait(page, "message.textContent")
        assert f"no unit {unit}: " in page.inner_text("#message") and page.evaluate("explorer.view")
        go(page, "sparse_kl/7?k=x&kept=-2&digit=77&turned=9999:1,3:9,a,:&test=1e9&nothing")
        wait(page, "!message.textContent && explorer.state.unit === 7")
        assert page.evaluate("explorer.state.turned.size") == 0 and look(page)["kept"] == look(page)["count"]

    for address in ("../sparse_l1", "<b>x</b>", "https://example.org/x"):
        go(page, address)
        wait(page, "message.textContent")
        assert page.inner_text("#message").startswith("This address names no model") and pressed_models(page) == []
        choose_model(page, "sparse_l1")
        assert not page.is_visible("#message")


def test_a_dead_unit_is_crossed_out_and_has_no_images(visit, folder):
    content = content_of(SHIPPED_PAGE, "sparse_l1")
    dead = {
        "frequency": torch.zeros(512),
        "strongest": torch.full((512, 12), -1),
        "strongest_code": torch.zeros(512, 12),
        "middling": torch.full((512, 6), -1),
        "middling_code": torch.zeros(512, 6),
        "histogram": torch.zeros(512, 20),
        "encoder": torch.zeros(512, 784),
        "bias": torch.zeros(512),
    }
    kinds = dict.fromkeys(dead, "<f4") | {"strongest": "<i2", "middling": "<i2", "histogram": "<u2", "encoder": "<i2"}
    changes = {key: common.pack(values, kinds[key]) for key, values in dead.items()}
    model_file(folder, "sparse_l1").write_text(spoil(content, mse=None, **changes))
    page = visit("sparse_l1/3", folder)
    wait(page, "explorer.testImages")
    open_part(page, "#all")
    for order in ("digit", "size", "likeness", "frequency"):
        page.select_option("#order", order)
        look(page)
    assert not page.is_visible("#histogram") and not page.is_visible("#bars") and page.is_disabled("#dial")
    assert "Dead: active on no test image." in page.inner_text("#unit-note")
    assert not page.is_visible("#strongest button") and not page.is_visible("#middling button")
    black = page.locator("#groups canvas").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(15, 15, 1, 1).data].slice(0, 3)"
    )
    assert sum(black) < 120  # the middle of the cross
    # A file of an earlier version does not say what is typical.
    assert page.inner_text("#typical").endswith("To write it: python sparse_l1.py)")


# Keyboard, eyes, small screens


def test_a_finger_draws_and_chooses(visit):
    page = visit(has_touch=True, viewport=(360, 740))
    before = look(page)
    box = page.locator("#pad").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert look(page)["input"] != before["input"] and page.evaluate("getComputedStyle(pad).touchAction") == "none"
    assert re.search(r"fitted, enlarged × 3\.0$", page.text_content("#input-note"))
    view = look(page)
    tile(page, 2).tap()
    after = look(page)
    assert after["image"] == view["image"] and page.inner_text("#unit-title") == f"Unit {view['terms'][2]}"
    page.tap("#off")
    assert look(page)["image"] != view["image"]
    page.tap("#close")
    page.evaluate(SETTLED)
    assert not page.is_visible("#card")
    scrolling = page.evaluate(
        """() => [...document.querySelectorAll("main *:not(#card, #spoken)")]
            .filter(element => /auto|scroll/.test(getComputedStyle(element).overflowY)).length"""
    )
    assert scrolling == 0  # no box of its own inside the page


def test_by_keyboard_alone(visit):
    page = visit(fresh=True)
    wait(page, "explorer.testImages")
    for part in ("#more", "#all"):
        open_part(page, part)
    reached, seen_outline = [], True
    for _ in range(60):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            """() => { const e = document.activeElement, style = getComputedStyle(e);
                       return [e.id || e.ariaLabel || e.tagName, style.outlineStyle]; }"""
        )
        seen_outline &= where == "BODY" or outline == "solid"
        reached.append(where)
        if where == "groups":
            break
    controls = {
        "pad",
        "clear",
        "fit",
        "k",
        "noise",
        "save",
        "play",
        "kept",
        "difference",
        "dial",
        "off",
        "order",
        "groups",
    }
    assert controls | {f"Test digit {digit}" for digit in range(10)} <= set(reached) and seen_outline
    for kind, count in (("Unit ", 1), ("Test image ", 2)):  # from there with arrow keys
        assert sum(where.startswith(kind) for where in reached) == count
    assert sum(where.startswith(("L1", "KL", "k-sparse")) for where in reached) == 7

    tile(page, 0).focus()
    page.keyboard.press("ArrowRight")
    whole = look(page)
    assert (
        page.inner_text("#unit-title") == f"Unit {whole['terms'][1]}"
        and page.evaluate("explorer.state.pointed") is not None
    )
    columns = page.evaluate("getComputedStyle(sum).gridTemplateColumns.split(' ').length")
    page.keyboard.press("ArrowDown")
    look(page)
    assert page.inner_text("#unit-title") == f"Unit {whole['terms'][1 + columns]}"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("x")
    assert look(page)["image"] != whole["image"]
    assert page.evaluate("[...explorer.state.turned]") == [[whole["terms"][1], 0]]
    wait(page, "/^Unit \\d+ off\\.$/.test(spoken.textContent)")
    page.keyboard.press("x")
    assert look(page)["image"] == whole["image"]
    tile(page, 2).click()
    wait(page, "/^Unit \\d+, active on [\\d.]+ % of the test images\\.$/.test(spoken.textContent)")
    page.locator("#strongest button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    look(page)
    assert page.locator("#strongest button").nth(1).get_attribute("aria-pressed") == "true"
    page.locator("#kept").focus()
    page.keyboard.press("Home")
    look(page)
    assert page.evaluate("explorer.state.kept") == 0
    page.keyboard.press("ArrowRight")
    assert look(page)["kept"] == 1 and page.get_attribute("#kept", "aria-valuetext").startswith("1 of 25, error 0.")
    page.locator("#dial").focus()
    page.keyboard.press("ArrowRight")
    look(page)
    assert page.get_attribute("#dial", "aria-valuetext").startswith("× 1.1 = ")


def test_the_pad_by_keyboard(visit, tmp_path):
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

    page.keyboard.press(" ")  # a brush that was down is lifted, by undo and by a digit
    page.keyboard.press("Control+z")
    page.keyboard.press("ArrowRight")
    look(page)
    assert pressed_digit(page) == "7"
    page.keyboard.press(" ")
    page.keyboard.press("3")
    before = look(page)["input"]
    page.keyboard.press("ArrowRight")
    assert look(page)["input"] == before and page.get_attribute("#brush", "class") == ""
    page.keyboard.down(" ")
    page.keyboard.down(" ")  # a key that is held does not switch
    assert page.get_attribute("#brush", "class") == "down"
    page.keyboard.up(" ")
    page.keyboard.press("Tab")
    assert not page.is_visible("#brush")

    # What is read aloud, and the names that are the window's
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("2")
    wait(page, "/^Error 0\\.\\d+, 25 units active, all 25 kept\\.$/.test(spoken.textContent)")
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=img], [role=application], [role=group]")]
            .filter(element => !element.closest("[hidden]"))
            .filter(element => !(element.ariaLabel || element.labels?.length || element.textContent.trim()
                || element.getAttribute("aria-labelledby")))
            .map(element => element.outerHTML)"""
    )
    assert nameless == []
    names = "() => Object.getOwnPropertyNames(window)"
    own = set(page.evaluate(names))
    (tmp_path / "empty.html").touch()
    page.goto((tmp_path / "empty.html").as_uri())
    assert own - set(page.evaluate(names)) == {"explore", "explorer"}


def test_forced_colours(visit):
    page = visit(forced_colors="active")
    tile(page).click()
    look(page)
    style = "element => getComputedStyle(element).outlineStyle"
    assert tile(page).evaluate(style) == page.locator("#digits [aria-pressed=true]").evaluate(style) == "solid"
    assert tile(page, 1).evaluate(style) == "none"
    assert page.locator("#bars i").first.evaluate("bar => getComputedStyle(bar).backgroundImage") != "none"


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


def test_text_and_borders_are_seen_in_light_dark_and_print(visit):
    for scheme in ("light", "dark"):
        page = visit("sparse_l1", color_scheme=scheme)
        turn(page, 0, 0)
        for part in ("#more", "#all"):
            open_part(page, part)
        pairs = page.evaluate(CONTRASTS)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in re.findall(r"\d+", background)) > 380) == (scheme == "light")
        go(page, "sparse_l1/512")
        wait(page, "message.textContent")
        pairs += page.evaluate(CONTRASTS)
        if scheme == "dark":
            page.emulate_media(media="print")
            page.evaluate(SETTLED)
            pairs += page.evaluate(CONTRASTS)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 249)"
            assert page.evaluate("getComputedStyle(pad).filter") == "none"
            page.emulate_media(media="screen")
        assert len(pairs) > 90 and [pair for pair in pairs if pair[1] < 1] == [], scheme


# Files


def test_a_missing_file(visit, folder):
    copy_model("sparse_l1", folder)
    missing = [f"{name}.js" for name in NAMES if name != "sparse_l1"]
    page = visit("", folder, missing=missing)
    assert page.inner_text("#message") == (
        "There is no models/sparse_ksparse_k25.js beside this page. To write it: python sparse_ksparse.py --k 25"
    )
    assert page.inner_text("#error") == "–"
    draw(page, (0.3, 0.3), (0.7, 0.7))  # one can draw all the same, and choose another
    page.evaluate(SETTLED)
    assert painted(page, "#pad") and painted(page, "#input") and not painted(page, "#image")
    assert page.is_disabled("#kept") and page.locator("#sum button:visible").count() == 0
    wait(page, "document.querySelectorAll('#models .waiting').length === 6")
    assert page.locator("#models .waiting").all_inner_texts()[0].endswith("not there")
    choose_model(page, "sparse_l1")
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
    listed = page.locator("#models button").evaluate_all("tiles => tiles.map(tile => tile.dataset.name)")
    assert listed == ["sparse_l1", "sparse_kl", *own]
    assert pressed_models(page) == ["sparse_l1"] and look(page)["active"] > 0
    for name in own:
        choose_model(page, name)
        wait(page, "explorer.testImages")

    names = ["my own sparse_l1 ü 0.001", "cost_$5 #3 100%25", "<i>'\"&?"]  # and some that are not listed
    for name in names:
        model_file(tmp_path, name).write_text(spoil(content_of(SHIPPED_PAGE, "sparse_l1"), name=name))
        go(page, quote(name))
        wait(page, "name => explorer.model?.name === name", arg=name)
        assert pressed_models(page) == [name] and look(page)["active"] > 0
        wait(page, "location.hash.includes('?digit=2')")
        assert page.evaluate("location.hash").startswith("#" + quote(name, safe="!'()*~"))


def test_a_slow_server(visit):
    """It says what is loading, and shows nothing of a model before it is there."""

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self):
            if "sparse_kl" in self.path:
                may_go.wait(20)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    may_go = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=SHIPPED_PAGE)) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            page = visit("sparse_l1/359", server=f"http://127.0.0.1:{server.server_port}/")
            wait(page, "explorer.testImages")
            assert page.inner_text("#unit-title") == "Unit 359" and page.is_visible("#strongest button")
            page.evaluate("location.hash = '#sparse_kl'")
            wait(page, "/Loading KL … L1: \\d+ of 512/.test(document.querySelector('#code-note').textContent)")
            assert pressed_models(page) == ["sparse_kl"] and page.evaluate("explorer.model.name") == "sparse_l1"
            waiting = page.locator("#models .waiting").first
            assert "loading" in waiting.inner_text() and waiting.get_attribute("aria-label") == "KL: loading …"
            may_go.set()
            wait(page, "explorer.model.name === 'sparse_kl'")
            assert page.inner_text("#code-note").startswith("KL: ")
            page.close()
        finally:
            may_go.set()
            server.shutdown()


def test_without_what_models_share(visit, folder):
    """The page alone, with a model's file."""
    missing = ["images_MNIST.js", "models.js"]
    for name in missing:
        (folder / name).unlink()
    copy_model("sparse_l1", folder)
    others = [f"{name}.js" for name in NAMES if name != "sparse_l1"]
    page = visit("sparse_l1/3", folder, missing=[*missing, *others])
    wait(page, "document.querySelector('#no-examples').textContent")
    assert look(page)["active"] > 0 and page.locator("#models button").count() == len(NAMES)
    assert "images_MNIST.js cannot be read (it is not beside this page)" in page.inner_text("#no-examples")
    assert "A script that draws a model of MNIST writes it." in page.inner_text("#no-examples")
    assert not page.is_visible("#strongest")


def test_test_images_that_cannot_be_read(visit, folder):
    model = content_of(SHIPPED_PAGE, "sparse_l1")
    damaged = {"cut off": "explore(", "text": 'explore("*");', "no gzip": 'explore("AAAA");', "none": "explore([]);"}
    damaged["empty"] = ""
    for name, content in damaged.items():
        (folder / f"images_{name}.js").write_text(content)
        model_file(folder, name).write_text(spoil(model, name=name, dataset=name))
    page = visit("cut%20off", folder)
    for name in damaged:
        choose_model(page, name)
        wait(page, "name => document.querySelector('#no-examples').textContent.includes(name)", arg=name)
        assert look(page)["active"] > 0
        assert re.fullmatch(
            rf"There are no test images, since images_{name}.js cannot be read \([^\n]+\)\. "
            rf"A script that draws a model of {name} writes it\.",
            page.text_content("#no-examples"),
        )

    index = folder / "index.html"  # a browser that is too old
    index.write_text(index.read_text().replace("<script>", "<script>delete globalThis.DecompressionStream;", 1))
    page = visit("text", folder)
    wait(page, "document.querySelector('#no-examples').textContent")
    assert page.text_content("#no-examples").endswith("(this browser is too old for it).") and look(page)["active"] > 0


DAMAGED = {
    "not JavaScript": lambda content: "explore({",
    "empty": lambda content: "",
    "cut off": lambda content: spoil(content)[:100_000],
    "another model": lambda content: spoil(content, name="sparse_kl"),
    "this page has no function called toString, which is its activation": lambda content: spoil(
        content, activation="toString"
    ),
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
    content, other = content_of(SHIPPED_PAGE, "sparse_l1"), content_of(SHIPPED_PAGE, "sparse_ksparse_k5")
    copy_model("sparse_kl", folder)
    page = visit("sparse_kl", folder)
    files = [("sparse_l1", damage, spoilt(content)) for damage, spoilt in DAMAGED.items()]
    files += [("sparse_ksparse_k5", "its k is wrong", spoil(other, k=k)) for k in (None, 0, 1001, 2.5)]
    for name, damage, text in files:
        model_file(folder, name).write_text(text)
        go(page, name)
        wait(page, "message.textContent")
        message = page.inner_text("#message")
        assert message.startswith(f"models/{name}.js cannot be used: "), damage
        assert (
            re.search(r"\. To write it: python sparse_(l1|ksparse)\.py( --k 5)?$", message) and "\n" not in message
        ), damage
        if damage.startswith(("its", "this page")):
            assert f"cannot be used: {damage}. " in message
        assert not page.evaluate("explorer.model"), damage
        choose_model(page, "sparse_kl")
        wait(page, "explorer.view")
        assert not page.is_visible("#message")


# Models that are not shipped


@pytest.fixture(scope="module")
def own_models(tmp_path_factory):
    """write(method, ...): a folder with the page of a small model, the model, its name, and the images of the page's
    buttons. The model is judged by the `chosen` ones of 199 test images, with their labels or without."""
    data = common.load_data(train_count=600)
    images, labels = data.test_images[:199], data.test_labels[:199]

    def write(method, chosen=slice(None), has_labels=True, folder=None, **changes):
        folder = folder or tmp_path_factory.mktemp("page")
        model = METHODS[method].train(data._replace(test_images=images, test_labels=labels), **changes)
        shown, own = images[chosen], labels[chosen] if has_labels else None
        report = common.evaluate(model, shown, own)
        common.write_explorer(model, report, common.first_images(shown, own), folder)
        common.write_page(folder, data)
        return folder, model, model.name, common.first_images(shown, own)

    return write


@torch.no_grad()
def test_the_sum_is_the_models_output(visit, own_models, tmp_path):
    """Also where the median code is not 0, so that more than k units differ from it."""
    shapes = [(1, 4), (32, 64), (50, 64), (64, 64), (100, 300)]
    written = [own_models("sparse_ksparse", folder=tmp_path, k=k, hidden=hidden) for k, hidden in shapes]
    page = visit(written[0][2], folder=tmp_path)
    for _, model, name, digits in written:
        choose_model(page, name)
        for digit in (1, 8):
            press_digit(page, digit)
            view = look(page)
            expected = model(digits[digit : digit + 1])[0][0]
            assert torch.allclose(torch.tensor(view["image"]), expected, atol=2e-3)
            assert view["error"] == pytest.approx((expected - digits[digit]).square().mean().item(), rel=2e-3)
            decoded = torch.tensor(values_of(page, "explorer.decode(explorer.view.code, explorer.model)"))
            assert torch.allclose(torch.tensor(view["image"]), decoded, atol=1e-5)
            parts = page.evaluate(SUM)
            assert parts["away"] < 1e-5 and parts["other"] <= 0.1 * parts["largest"]
        assert page.inner_text("#kept-count") == f"all {view['count']}"
    rest = torch.tensor(values_of(page, "explorer.model.medianCode"))
    assert view["count"] > 100 and (rest > 0).any()  # of the last


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
    open_part(page, "#all")
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
    assert f"code above {model.active_above:g}" in page.inner_text("#code-note")
    assert page.is_hidden("#k-row")


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
        choose_model(page, name)
        wait(page, "explorer.testImages")
        assert values_of(page, "explorer.testImages.subarray(0, 784)") == first[name]
        return look(page)["input"]

    page = visit("turned", tmp_path)
    turned = choose("turned")
    upright = choose("upright")
    assert torch.tensor(upright).view(28, 28).flip(0).flatten().tolist() == turned and pressed_digit(page) == "2"
    press_digit(page, 3)
    assert choose("turned") != turned and pressed_digit(page) == "3"
    page.keyboard.press("Control+z")
    assert look(page)["input"] == upright and page.locator("#digits [aria-pressed=true]").count() == 0
    draw(page, (0.5, 0.2), (0.5, 0.8))
    drawing = look(page)["input"]
    assert choose("upright") == drawing  # what one draws stays

    (tmp_path / "images_upside-down.js").unlink()
    page = visit("turned", tmp_path, missing=["images_upside-down.js"])
    wait(page, "document.querySelector('#no-examples').textContent")
    assert "images_upside-down.js cannot be read (it is not beside this page)" in page.inner_text("#no-examples")
    choose("upright")
    assert page.is_hidden("#no-examples") and page.is_visible("#strongest button")


def test_data_sets_of_other_sizes(visit, write_own, small, folder):
    """Few images, and more than two bytes with a sign can count."""
    blank = torch.zeros(32_700, 784, dtype=torch.uint8)
    many = torch.cat([small.test_images[:100], blank, small.test_images[100:]])
    for name, images in (("few", small.test_images), ("many", many)):
        data = small._replace(test_images=images, test_labels=None, name=name)
        model = write_own(folder, Fourth, name, data)
        common.write_page(folder, data)
        page = visit(name, folder)
        wait(page, "explorer.testImages")
        assert page.evaluate("explorer.testImages.length") == images.numel()
        strongest = torch.tensor(values_of(page, "explorer.model.strongest")).view(-1, 12)
        expected = common.evaluate(model, images, None).examples.strongest
        assert strongest.equal(expected) and page.is_hidden("#no-examples") and page.is_visible("#strongest button")
        number = int(page.locator("#strongest button").first.get_attribute("data-image"))
        page.locator("#strongest button").first.click()
        assert torch.tensor(look(page)["input"]).equal(common.to_float(images[number]))
    assert expected.max() > 32_767

    common.write_page(folder, data._replace(test_images=small.test_images))
    page = visit("many", folder)
    wait(page, "document.querySelector('#no-examples').textContent")
    assert "images_many.js cannot be read (it lacks some on which " in page.inner_text("#no-examples")
    assert page.is_hidden("#strongest")


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
    wait_for_models(page)
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
    page.evaluate("() => { document.documentElement.style.fontSize = ''; }")
