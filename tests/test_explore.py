"""outputs/shipped/explore.html in a real browser, opened from disk, against what Python says of the same images."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
import torch

import common

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")

OUTPUTS = Path(__file__).resolve().parent.parent / "outputs" / "shipped"
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


@pytest.fixture
def visit(browser):
    """visit(hash, folder=..., missing=(), **context): the page, opened from a folder. Afterwards: it has said nothing
    in the console, raised nothing, and asked for nothing but files. A missing file is the one thing of which a browser
    always tells the console."""
    contexts, faults, allowed = [], [], []

    def visit(name="", folder=OUTPUTS, missing=(), **options):
        allowed.extend(f"{file} net::ERR_FILE_NOT_FOUND" for file in missing)
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(describe(message)))
        page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
        page.on("request", lambda r: r.url.startswith(("file://", "data:")) or faults.append(f"request: {r.url}"))
        page.goto((folder / "explore.html").as_uri() + (f"#{name}" if name else ""))
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
    """A folder with the page alone."""
    shutil.copy(OUTPUTS / "explore.html", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    """The ten test digits of the page's buttons, [10, 784] in [0, 1]."""
    data = common.load_mnist(train_count=0)
    return common.first_images(data.test_images, data.test_labels)


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


def slide(page, slider, position):
    page.locator(slider).evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input', { bubbles: true })); }", position
    )


def press_digit(page, digit):
    page.get_by_role("button", name=f"Test digit {digit}").click()


def painted(page, canvas):
    """Whether a canvas has more than one colour."""
    return page.locator(canvas).evaluate(
        """canvas => new Set(new Uint32Array(
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 1"""
    )


def tile(page, index=0):
    return page.locator("#strip button:visible").nth(index)


# Against Python


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_code_and_reconstruction_agree_with_python(visit, digits, name):
    model, _ = common.load_pretrained(name)
    reconstruction, code = model(digits)
    page, same, either = visit(name), 0, 0
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
    model, _ = common.load_pretrained(name)
    page = visit(name)
    press_digit(page, 2)
    rest = torch.tensor(page.evaluate("Array.from(explorer.model.rest)"), dtype=torch.float32)
    position, count = page.evaluate("[8, Number(document.querySelector('#kept').max)]")
    slide(page, "#kept", position)
    tile(page, 1).click()
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
    model, _ = common.load_pretrained("sparse_ksparse_k25")
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
    slide(page, "#k", page.evaluate("kStops(explorer.model).indexOf(25)"))
    assert look(page)["error"] == as_trained
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.model?.name === 'sparse_l1'")
    page.evaluate(SETTLED)
    assert not page.is_visible("#k") and page.inner_text("#kept-note") == "all 512"


def test_encode_and_decode_from_the_console(visit):
    page = visit("sparse_l1")
    difference = page.evaluate(
        """() => {
            const image = explorer.decode(explorer.encode(explorer.view.input));
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
    assert not any(look(page)["input"]) and page.is_disabled("#clear") and not painted(page, "#pad")
    page.keyboard.press("Control+z")
    assert look(page)["input"] == one["input"]
    page.click("#undo")
    assert look(page)["input"] == digit["input"] and page.is_disabled("#undo")


def test_a_finger_draws(visit):
    page = visit(has_touch=True, viewport={"width": 360, "height": 740})
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
    less = look(page)
    assert less["error"] > whole["error"] and less["code"] == whole["code"]
    assert tile(page).get_attribute("aria-pressed") == "false"
    assert tile(page).get_attribute("aria-label") == f"{name}, switched off"
    tile(page).click()
    assert look(page)["image"] == whole["image"] and tile(page).get_attribute("aria-pressed") == "true"
    tile(page, 2).click()
    tile(page, 0).click()
    page.click("#all-on")
    assert look(page)["image"] == whole["image"]


def test_a_unit_that_is_off_stays_in_sight(visit):
    page = visit()
    press_digit(page, 0)
    tile(page).click()
    unit = look(page)["ranked"][0]
    for digit in range(1, 10):
        press_digit(page, digit)
        look(page)
        assert page.get_by_role("button", name=f"Unit {unit},").get_attribute("aria-pressed") == "false"


def test_only_the_n_strongest(visit):
    page = visit("sparse_l1")
    look(page)
    errors = []
    for position in (0, 10, 25, int(page.get_attribute("#kept", "max"))):
        slide(page, "#kept", position)
        view = look(page)
        errors.append(view["error"])
        assert view["curve"][position] == pytest.approx(view["error"])
        left_out = page.locator("#strip button.left-out").count()
        assert left_out == max(0, 24 - page.evaluate("explorer.state.kept"))
    assert errors == sorted(errors, reverse=True) and errors[0] > 10 * errors[-1]
    assert page.inner_text("#kept-note") == "all 512"
    assert page.locator("#plot polyline").count() == page.locator("#plot circle").count() == 1


def test_hovering_shows_a_unit_large(visit):
    page = visit()
    look(page)
    tile(page, 3).hover()
    unit = look(page)["ranked"][3]
    assert page.inner_text("#unit-title") == f"Unit {unit}" and painted(page, "#unit-picture")
    shares = page.evaluate("u => Array.from({length: 10}, (_, d) => explorer.model.digits[d * 1000 + u])", unit)
    heights = page.locator("#bars i").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.backgroundSize.split(' ')[1]))"
    )
    assert heights == pytest.approx([100 * share / max(shares) for share in shares], abs=0.1)
    label = page.get_attribute("#bars", "aria-label")
    assert f"mean code: {shares.index(max(shares))}, " in label


# Keyboard, eyes, small screens


def test_by_keyboard_alone(visit):
    page = visit()
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
    assert {"models", "clear", "fit", "kept", "k", *(f"Test digit {digit}" for digit in range(10))} <= reached
    assert sum(where.startswith("Unit ") for where in reached) == 24 and seen_outline

    page.locator("#digits button").nth(8).focus()
    page.keyboard.press("Enter")
    look(page)
    assert page.locator("#digits button[aria-pressed=true]").get_attribute("aria-label") == "Test digit 8"
    tile(page, 1).focus()
    whole = look(page)
    assert page.inner_text("#unit-title") == f"Unit {whole['ranked'][1]}"
    page.keyboard.press("Space")
    assert look(page)["image"] != whole["image"]
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


def test_what_is_read_aloud(visit):
    page = visit()
    page.wait_for_function("/^Error 0\\.\\d+, 25 units active, all 25 kept\\.$/.test(spoken.textContent)")
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=img]")].filter(element =>
            !(element.ariaLabel || element.labels?.length || element.textContent.trim()))
            .map(element => element.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("name", ["sparse_kl", "sparse_ksparse_k100"])
def test_nothing_sticks_out(visit, name, width):
    page = visit(name, viewport={"width": width, "height": 800})
    look(page)
    slide(page, "#kept", 20)
    tile(page).click()
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit, folder, scheme):
    shutil.copy(OUTPUTS / "sparse_l1.js", folder)
    page = visit("sparse_l1", folder, missing=["sparse_kl.js"], color_scheme=scheme)
    tile(page).click()
    look(page)
    pairs = page.evaluate(CONTRASTS)
    page.select_option("#models", "sparse_kl")
    page.wait_for_function("message.textContent")
    pairs += page.evaluate(CONTRASTS)
    assert len(pairs) > 60 and [pair for pair in pairs if pair[1] < 4.5] == []


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
    shutil.copy(OUTPUTS / "sparse_l1.js", folder)
    page = visit("", folder, missing=["sparse_ksparse_k25.js"])
    assert page.inner_text("#message") == (
        "There is no sparse_ksparse_k25.js beside this page. To write it: python sparse_ksparse.py --k 25"
    )
    assert page.inner_text("#error") == "–"
    draw(page, (0.3, 0.3), (0.7, 0.7))  # one can draw all the same, and choose another
    page.evaluate(SETTLED)
    assert painted(page, "#pad") and painted(page, "#input") and not painted(page, "#image")
    assert page.is_disabled("#kept") and page.locator("#strip button:visible").count() == 0
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.view")
    assert not page.is_visible("#message") and look(page)["active"] > 0


def spoil(content, **changes):
    return f"explore({json.dumps({**content, **changes})});"


DAMAGED = {
    "not JavaScript": lambda content: "explore({",
    "empty": lambda content: "",
    "cut off": lambda content: spoil(content)[:100_000],
    "another model": lambda content: spoil(content, name="sparse_kl"),
    "unknown method": lambda content: spoil(content, method="toString"),
    "no object": lambda content: "explore(null);",
    "no hidden": lambda content: spoil(content, hidden=None),
    "negative hidden": lambda content: spoil(content, hidden=-1),
    "missing key": lambda content: spoil({key: value for key, value in content.items() if key != "rest"}),
    "wrong length": lambda content: spoil(content, bias=content["bias"][:-8]),
    "bad base64": lambda content: spoil(content, encoder="*" + content["encoder"][1:]),
    "no text": lambda content: spoil(content, images=3),
    "NaN": lambda content: spoil(content, decoder_bias="AADAfwAA" + content["decoder_bias"][8:]),
    "infinite scale": lambda content: spoil(content, encoder_scale="AACAfwAA" + content["encoder_scale"][8:]),
    "throws": lambda content: "throw Error('no');",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file(visit, folder, damage):
    content = json.loads((OUTPUTS / "sparse_l1.js").read_text().strip()[len("explore(") : -len(");")])
    (folder / "sparse_l1.js").write_text(DAMAGED[damage](content))
    shutil.copy(OUTPUTS / "sparse_kl.js", folder)
    page = visit("sparse_l1", folder)
    message = page.inner_text("#message")
    assert message.startswith("sparse_l1.js is damaged: ") and message.endswith(". To write it: python sparse_l1.py")
    assert "\n" not in message and not page.evaluate("explorer.model")
    page.select_option("#models", "sparse_kl")
    page.wait_for_function("explorer.view")
    assert not page.is_visible("#message")


def test_a_wrong_k(visit, folder):
    content = json.loads((OUTPUTS / "sparse_ksparse_k5.js").read_text().strip()[len("explore(") : -len(");")])
    for k in (None, 0, 1001, 2.5):
        (folder / "sparse_ksparse_k5.js").write_text(spoil(content, k=k))
        assert "its k is wrong" in visit("sparse_ksparse_k5", folder).inner_text("#message")


@pytest.mark.parametrize("name", ["my own sparse_l1 ü 0.001", "2026-11-25T10:00", "cost_$5 #3 100%25", "<i>'\"&?"])
def test_a_model_of_ones_own(visit, folder, name):
    (folder / f"{name}.js").write_text(
        (OUTPUTS / "sparse_l1.js").read_text().replace('"sparse_l1"', json.dumps(name), 1)
    )
    page = visit(quote(name), folder)
    assert page.input_value("#models") == name and page.locator("#models option").count() == len(NAMES) + 1
    assert look(page)["active"] > 0


@pytest.mark.parametrize("name", ["../sparse_l1", "<b>x</b>", "https://example.org/x"])
def test_an_address_that_names_no_model(visit, name):
    page = visit(name)
    assert page.inner_text("#message").startswith("This address names no model")
    page.select_option("#models", "sparse_l1")
    page.wait_for_function("explorer.view")


def test_the_chooser_lists_the_shipped_models(visit):
    page = visit()
    assert page.locator("#models option").evaluate_all("options => options.map(option => option.value)") == list(NAMES)
    assert page.input_value("#models") == "sparse_ksparse_k25"
    page.select_option("#models", "sparse_ksparse_k5")
    page.wait_for_function("explorer.model?.k === 5")
    assert page.url.endswith("#sparse_ksparse_k5") and look(page)["active"] == 5
