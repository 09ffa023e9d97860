"""The page explore/learn.html, opened from disk: what it computes against PyTorch, what it shows and hands on."""

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_explore import OUTSIDE, SMALL, UNSEEN, pixels_of, values_of

from sparse_ksparse import top_k

ADDRESS = (ROOT / "explore" / "learn.html").as_uri()
# Without a worker, and without waiting: nothing is in slow motion.
AT_ONCE = """
    delete globalThis.Worker;
    const later = setTimeout;
    globalThis.setTimeout = work => later(work);
"""
# What the textbook's recipe and ours have learnt after some of 600 steps.
LEARN = """after => {
    const { engine, state } = learner, { images, testImages } = engine.split(state.bytes);
    const recipes = [{ mean: false, largeK: false }, { mean: true, largeK: true }];
    const lesson = engine.makeLesson(images, recipes, 5, 600);
    while (lesson.step < after) engine.learn(lesson);
    globalThis.result = { engine, lesson, images, testImages };
}"""


@pytest.fixture(scope="module")
def page(browser):
    """The page, paused when units have died."""
    page, faults = browser.new_page(), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.add_init_script(AT_ONCE)
    page.goto(ADDRESS)
    page.wait_for_function("learner.state.report?.step >= 10")
    page.click("#play")
    yield page
    page.close()
    assert faults == []


def parts_of(values):
    """The decoder's weights [784, 64], the encoder's [64, 784], and their biases, or the gradients of these."""
    dictionary, encoder, bias, decoder_bias = torch.tensor(values).split([64 * 784, 64 * 784, 64, 784])
    return dictionary.view(64, 784).T, encoder.view(784, 64).T, bias, decoder_bias


def test_gradients_are_pytorchs(page, data):
    page.evaluate(LEARN, 3)
    runs = values_of(
        page,
        """result.lesson.runs.map((run, index) => ({
            weights: run.weights.all, mean: run.mean, k: [8, 20][index],
            gradients: result.engine.gradientsOf(run, result.images, [...Array(100).keys()], [8, 20][index]).all,
        }))""",
    )
    learnt_from = data.test_images[torch.arange(len(data.test_images)) % 5 > 0].float() / 255
    images = learnt_from[:100]
    for run, mean in zip(runs, (torch.zeros(784), learnt_from.mean(dim=0)), strict=True):
        assert torch.allclose(torch.tensor(run["mean"], dtype=torch.float32), mean, atol=1e-5)
        weights = [part.clone().requires_grad_() for part in parts_of(run["weights"])]
        decoder, encoder, bias, decoder_bias = weights
        code = top_k(F.relu(F.linear(images - mean, encoder, bias)), run["k"])
        F.mse_loss(F.linear(code, decoder, decoder_bias), images).backward()
        for weight, gradient in zip(weights, parts_of(run["gradients"]), strict=True):
            assert (gradient - weight.grad).norm() < 1e-4 * weight.grad.norm()


def test_our_recipe_keeps_units_alive(page):
    page.evaluate(LEARN, 600)
    textbook, ours = values_of(
        page,
        """result.lesson.runs.map(run => {
            const { mse, alive } = result.engine.evaluate(run, result.testImages, 8);
            return { mse, dead: alive.filter(isAlive => !isAlive).length };
        })""",
    )
    assert ours["dead"] <= 2 and ours["mse"] <= 0.023
    assert textbook["dead"] >= 30


def test_what_is_shown(page):
    runs = values_of(page, "learner.state.report.runs.map(({ mse, alive }) => ({ mse, alive }))")
    for place, run in enumerate(runs, start=1):
        section = page.locator(f".run:nth-child({place})")
        dead = [unit for unit, is_alive in enumerate(run["alive"]) if not is_alive]
        assert len(dead) == int(section.locator(".dead b").inner_text())
        assert section.locator(".error").inner_text() == f"{run['mse']:.4f}"
        tiles = (pixels_of(page, f".run:nth-child({place}) .units")[:, 0] == 0x11).view(8, 30, 8, 30)
        crossed = [unit for unit in range(64) if tiles[unit // 8, 1:29, unit % 8, 1:29].diagonal().all()]
        assert crossed == dead
    assert len(dead) == 0 and page.locator("h2").all_inner_texts() == ["Textbook", "This project"]

    step = values_of(page, "learner.state.report.step")
    page.locator("input").nth(1).click()
    page.wait_for_function("step => learner.state.report.step < step", arg=step)  # both begin anew
    page.click("#play")
    assert page.locator("h2").all_inner_texts() == ["Large k alone", "This project"]


@pytest.mark.parametrize("size", [(1280, 720), (740, 360), (360, 740)])
def test_all_is_on_one_screen(page, size):
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    seen = [
        f".run:nth-child({run}) {part}" for run in (1, 2) for part in (".units", "input", ".dead", ".digit", ".give")
    ]
    assert page.evaluate(UNSEEN, ["#play", "#again", "#curve", *seen]) == []
    assert page.evaluate(SMALL) == []
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate(OUTSIDE) == []
    page.evaluate("document.documentElement.style.fontSize = ''")


@torch.no_grad()
def test_a_learnt_model_is_drawn_with(browser, data):
    context = browser.new_context()
    page = context.new_page()
    page.goto(ADDRESS)
    page.wait_for_function("learner.state.report?.step >= 1")  # a worker learns
    page.click("#play")
    page.wait_for_function("play.textContent.includes('Start')")
    with context.expect_page() as opened:
        page.locator(".give").nth(1).click()
    drawing = opened.value
    drawing.wait_for_function("explorer.view")
    run = values_of(page, "learner.state.report.runs[1]")
    assert drawing.evaluate("explorer.model.name") == f"learnt, k = {run['k']}" and drawing.is_hidden("#message")
    assert drawing.inner_text("#typical") == f"test digits: {run['mse']:.4f}"
    decoder, encoder, bias, decoder_bias = parts_of(run["all"])
    image = data.test_images[1] / 255  # a 2, which is drawn first
    code = top_k(F.relu(F.linear(image - torch.tensor(run["mean"]), encoder, bias)), run["k"])
    view = values_of(drawing, "explorer.view")
    assert torch.tensor(view["clean"]).allclose(image) and torch.tensor(view["code"]).allclose(code, atol=1e-3)
    redrawing = F.linear(code, decoder, decoder_bias).clamp(0, 1)
    assert torch.tensor(view["image"]).allclose(redrawing, atol=1e-3)
    context.close()
