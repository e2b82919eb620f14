from __future__ import annotations

import base64
import builtins
import io
import shutil
import threading
import warnings
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from physml.flipbook import Flipbook, live

matplotlib.use("agg")


def png(shade=0, size=(40, 20), mode="L"):
    stream = io.BytesIO()
    Image.new(mode, size, shade).save(stream, format="png")
    return stream.getvalue()


def three(**changes):
    arguments = {
        "frames": [png(0), png(100), png(200)],
        "labels": ["1", "2", "3"],
        "alts": ["black", "dark", "light"],
        "name": "shade",
        "caption": "Three greys.",
        "start": 1,
    }
    return Flipbook(**{**arguments, **changes})


class Elements(HTMLParser):
    """All elements with their attributes and text, and a check that each is closed."""

    VOID = ("img", "input")

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), "an attribute is given twice"
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def __getitem__(self, tag):
        return [element for element in self.found if element["tag"] == tag]


# --- what it says


def test_start_frame_alone_is_visible_without_a_script():
    images = Elements(three().html())["img"]
    assert ["hidden" in image for image in images] == [True, False, True]
    assert [image["alt"] for image in images] == ["black", "dark", "light"]
    for image, shade in zip(images, (0, 100, 200), strict=True):
        head, data = image["src"].split(",")
        assert head == "data:image/webp;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("L")
        assert picture.getextrema() == (shade, shade), "nothing is lost"
        # the size is known before the picture is: the text below does not jump
        assert (image["width"], image["height"]) == ("40", "20")


def test_controls_are_named_and_say_their_value():
    elements = Elements(three().html())
    (slider,) = elements["input"]
    assert [slider[key] for key in ("type", "min", "max", "step", "value")] == [
        "range", "0", "2", "1", "1",
    ]  # fmt: skip
    assert slider["aria-valuetext"] == "2"
    assert slider["autocomplete"] == "off"
    (label,) = elements["label"]
    assert label["text"] == "shade"
    assert elements.found.index(slider) > elements.found.index(label)
    assert elements["output"][0]["text"] == "2"
    labels = ["play shade", "previous shade", "next shade"]
    assert [b["aria-label"] for b in elements["button"]] == labels
    assert elements["button"][0]["aria-pressed"] == "false"
    assert all(b["type"] == "button" for b in elements["button"])
    assert elements["figcaption"][0]["text"] == "Three greys."


def test_nothing_is_loaded_and_nothing_has_an_id():
    html = three().html()
    assert "http" not in html and "<script" not in html and "<link" not in html
    assert all("id" not in element for element in Elements(html).found)


def test_text_is_the_same_on_each_run_and_follows_the_content():
    assert three().html() == three().html()
    assert three().html() != three(frames=[png(0), png(100), png(201)]).html()


def test_texts_are_escaped():
    evil = "\"><script>alert('1')</script>&amp;"
    book = three(labels=[evil] * 3, alts=[evil] * 3, name=evil, caption=evil)
    elements = Elements(book.html())
    assert elements["script"] == []
    assert all(image["alt"] == evil == image["data-label"] for image in elements["img"])
    assert elements["figcaption"][0]["text"] == evil == elements["output"][0]["text"]
    assert elements["input"][0]["aria-valuetext"] == evil
    assert elements["button"][1]["aria-label"] == "previous " + evil


def test_bundle_has_a_picture_and_a_sentence_where_html_is_not_shown():
    bundle, metadata = three(density=2)._repr_mimebundle_()
    assert metadata == {"image/png": {"width": 20, "height": 10}}
    bundle, _ = three()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert bundle["text/html"] == three().html()
    assert base64.b64decode(bundle["image/png"]) == png(100)
    assert bundle["text/plain"] == repr(three()) == "shade: 2 (frame 2 of 3). dark"


def test_one_frame_has_nothing_to_choose():
    book = Flipbook([png()], ["1"], ["black"], "shade")
    elements = Elements(book.html())
    assert elements["input"] == elements["button"] == elements["figcaption"] == []
    assert len(elements["img"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": [], "labels": [], "alts": []}, "frames must hold at least one frame"),
        ({"labels": ["1", "2"]}, "labels must have 3 entries, one a frame, not 2"),
        ({"alts": ["a"] * 4}, "alts must have 3 entries, one a frame, not 4"),
        ({"alts": ["a", " ", "c"]}, r"alts\[1\] must be a text that is not empty"),
        ({"alts": ["a", None, "c"]}, r"alts\[1\] must be a text"),
        ({"labels": ["1", "2", 3]}, r"labels\[2\] must be a text"),
        ({"alts": "abc"}, "alts must be a list"),
        ({"frames": png()}, "frames must be a list"),
        ({"name": ""}, "name must say what the slider changes"),
        ({"start": 3}, "start must be the number of a frame, 0 to 2, not 3"),
        ({"start": -1}, "start must be the number of a frame"),
        ({"start": True}, "start must be the number of a frame"),
        ({"density": 0}, "density must be an integer of at least 1"),
        ({"period": 0.0}, "period must be a finite positive number"),
        ({"frames": [png(), b"GIF89a", png()]}, "frame '2' must be a PNG file as bytes"),
        ({"frames": [png(), "text", png()]}, "frame '2' must be a PNG file as bytes"),
        (
            {"frames": [png(), png(), png(size=(41, 20))]},
            "frame '3' has 41 x 20 pixels, the first one 40 x 20",
        ),
    ],
)
def test_bad_input_is_refused_at_the_door(changes, message):
    with pytest.raises(ValueError, match=message):
        three(**changes)


def test_it_does_not_follow_changes_of_the_lists_it_was_made_from():
    frames = [png(0), png(1)]
    book = Flipbook(frames, iter(["1", "2"]), iter(["a", "b"]), "shade")
    frames[0] = png(9)
    assert book.frames == (png(0), png(1))


# --- drawing


def disc(radius):
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, radius], [0, 1], color="#D55E00", lw=8)
    ax.set(xlim=(0, 5), xlabel=r"$\alpha$")
    return figure


def test_draw_makes_small_opaque_frames_of_one_size_and_closes_the_figures():
    before = plt.get_fignums()
    settings = dict(matplotlib.rcParams)
    book = Flipbook.draw(
        disc, (r / 2 for r in range(1, 5)), name="radius", alt=lambda r: f"a line to {r}", dpi=80
    )
    assert plt.get_fignums() == before
    assert dict(matplotlib.rcParams) == settings
    assert book.labels == ("0.5", "1", "1.5", "2")
    assert book.alts[1] == "a line to 1.0"
    assert len(set(book.frames)) == 4
    (image,) = Elements(book.html())["img"][:1]
    assert (image["width"], image["height"]) == ("240", "160")
    for frame in book.frames:
        picture = Image.open(io.BytesIO(frame))
        assert picture.size == (480, 320)
        assert picture.mode == "P" and "transparency" not in picture.info
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert (pixels[0] == 255).all()
        # the palette keeps the colours: the line has its own to within a few steps
        assert np.abs(pixels.astype(int) - (0xD5, 0x5E, 0x00)).max(1).min() <= 8


def test_drawing_again_gives_the_same_bytes():
    books = [Flipbook.draw(disc, [1, 2], name="r", alt="a line") for _ in range(2)]
    assert books[0].html() == books[1].html()
    assert books[0].alts == ("a line r: 1", "a line r: 2")


def test_reader_settings_do_not_change_the_frames():
    plain = Flipbook.draw(disc, [1], name="r", alt="a")
    changes = {"savefig.bbox": "tight", "figure.facecolor": "black", "savefig.transparent": True}
    with matplotlib.rc_context({**changes, "font.size": 30}):
        assert Flipbook.draw(disc, [1], name="r", alt="a").frames == plain.frames


def test_frame_of_another_size_is_named():
    def growing(width):
        return plt.figure(figsize=(width, 1))

    with pytest.raises(ValueError, match="frame 'w=3' has 576 x 192 pixels, the first one 384"):
        Flipbook.draw(growing, [2, 3], name="w", alt="a", label=lambda w: f"w={w}")
    assert plt.get_fignums() == []


def moving(limit):
    figure, (ax, picture) = plt.subplots(1, 2)
    ax.set(xlim=(-limit, limit), ylim=(0, 1))
    figure.colorbar(picture.imshow([[0, 1]], vmin=0, vmax=1))
    picture.set_axis_off()
    return figure


def test_axes_and_colour_bars_stay():
    with pytest.raises(ValueError, match=r"x axis of panel 1 runs from -3 to 3 in frame '3'"):
        Flipbook.draw(moving, [2, 2, 3], name="limit", alt="an axis")
    assert plt.get_fignums() == []
    assert len(Flipbook.draw(moving, [2, 3], name="n", alt="a", moving_axes=True).frames) == 2

    def bar(top):
        figure = moving(1)
        figure.axes[1].images[0].set_clim(0, top)
        return figure

    with pytest.raises(ValueError, match=r"y axis of panel 3 runs from 0 to 2"):
        Flipbook.draw(bar, [1, 2], name="top", alt="a bar")

    def unread(limit):
        figure, ax = plt.subplots()
        ax.set(xlim=(0, limit), xticks=[], yticks=[])
        return figure

    Flipbook.draw(unread, [1, 2], name="limit", alt="an axis without numbers")


@pytest.mark.parametrize("bad", [{"alt": ""}, {"start": 5}, {"alt": lambda v: ""}, {"name": " "}])
def test_texts_are_checked_before_the_work(bad):
    calls = []
    with pytest.raises(ValueError):
        Flipbook.draw(calls.append, [1, 2], **{"name": "r", "alt": "a", **bad})
    assert calls == []
    with pytest.raises(ValueError, match="at least one frame"):
        Flipbook.draw(disc, [], name="r", alt="a")


def test_what_draw_does_wrong_is_said_with_the_frame():
    with pytest.raises(TypeError, match="for '7' it returned NoneType"):
        Flipbook.draw(lambda v: None, [7], name="r", alt="a")
    with pytest.raises(ZeroDivisionError) as caught:
        Flipbook.draw(lambda v: 1 / v, [0], name="r", alt="a")
    assert caught.value.__notes__ == ["while drawing the frame '0'"]


# --- live


def moved(box, index):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        box.children[0].index = index


def test_live_calls_the_function_at_each_move():
    pytest.importorskip("ipywidgets")
    seen = []
    box = live(lambda n, mass: seen.append((n, mass)), n=range(1, 4), mass=np.array([0.5, 1.5]))
    assert seen == [(2, 1.5)]
    moved(box, 0)
    assert seen == [(2, 1.5), (1, 1.5)]
    assert [slider.description for slider in box.children[:2]] == ["n", "mass"]
    assert [name for name, _ in box.children[1].options] == ["0.5", "1.5"]


def test_live_shows_what_is_returned_and_closes_figures(monkeypatch):
    import IPython.display

    pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    live(disc, radius=[1])
    assert [type(item).__name__ for item in shown] == ["Figure"]
    assert plt.get_fignums() == []


def test_live_says_what_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ipywidgets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        live(print, n=[1])


def test_live_needs_something_to_slide():
    pytest.importorskip("ipywidgets")
    with pytest.raises(ValueError, match="at least one argument"):
        live(print)
    with pytest.raises(ValueError, match="n has no values"):
        live(print, n=[])


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Debian's package chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served():
    """The address of a page with two equal flipbooks and another one."""
    wide = [png(shade, (704, 352)) for shade in (0, 100, 200)]
    other = three(labels=["one", "two", "three"], name="number", start=0, period=0.6)
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>t</title>"
        '<meta name=viewport content="width=device-width">'
        "<style>html{color-scheme:light dark}</style>"
        f"<body>{three(frames=wide).html() * 2}{other.html()}<p id=end>end</p></body></html>"
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            if self.path == "/":
                self.wfile.write(page)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser, served):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.errors, page.asked = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: page.asked.append(r.url))
    page.goto(served)
    yield page
    assert page.errors == []
    outside = [u for u in page.asked if not u.startswith((served, "data:"))]
    assert outside == []
    context.close()


def shown(page, number):
    """What the flipbook of this number shows: the visible alts, the text, the spoken value."""
    return page.evaluate(
        """n => { const f = document.querySelectorAll('figure')[n];
        return [[...f.querySelectorAll('img')].filter(i => i.checkVisibility()).map(i => i.alt),
                f.querySelector('output').textContent,
                f.querySelector('input').getAttribute('aria-valuetext')] }""",
        number,
    )


@pytest.mark.browser
def test_slider_by_keyboard_turns_its_own_flipbook_only(page):
    end = page.locator("#end").bounding_box()
    slider = page.get_by_role("slider", name="shade").nth(1)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert shown(page, 1) == [["light"], "3", "3"]
    page.keyboard.press("Home")
    assert shown(page, 1) == [["black"], "1", "1"]
    assert shown(page, 0) == [["dark"], "2", "2"]
    assert shown(page, 2) == [["black"], "one", "one"]
    assert page.locator("#end").bounding_box() == end, "the page moved"


@pytest.mark.browser
def test_slider_by_mouse(page):
    box = page.get_by_role("slider", name="shade").nth(0).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert shown(page, 0) == [["light"], "3", "3"]
    assert shown(page, 1) == [["dark"], "2", "2"]


@pytest.mark.browser
def test_buttons_by_touch_stop_at_the_ends(page):
    further = page.get_by_role("button", name="next number")
    for expected in ("two", "three", "three"):
        further.tap()
        assert shown(page, 2)[1:] == [expected, expected]
    page.get_by_role("button", name="previous number").tap()
    assert shown(page, 2) == [["dark"], "two", "two"]


@pytest.mark.browser
def test_it_plays_once_from_where_it_stands_and_stops_when_pressed(page):
    play = page.get_by_role("button", name="play number")
    play.tap()
    assert play.get_attribute("aria-pressed") == "true"
    page.wait_for_function("() => document.querySelectorAll('figure input')[2].value === '2'")
    page.wait_for_function("() => document.querySelector('[aria-pressed=true]') === null")
    assert shown(page, 2) == [["light"], "three", "three"]
    play.tap()  # from the end it starts again
    assert shown(page, 2) == [["black"], "one", "one"]
    play.tap()
    assert play.get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(900)
    assert shown(page, 2) == [["black"], "one", "one"]


@pytest.mark.browser
def test_it_fits_a_phone_and_fingers(page):
    wide = page.evaluate(
        """() => [...document.querySelectorAll('figure *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.tagName)"""
    )
    assert wide == []
    for button in page.locator("figure button").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 44
    for slider in page.locator("figure input").all():
        assert slider.bounding_box()["width"] >= 140
    image = page.locator("figure img:visible").first.bounding_box()
    assert image["height"] / image["width"] == pytest.approx(352 / 704, abs=0.01)


@pytest.mark.browser
def test_dark_page_keeps_its_colours_and_the_picture_its_white_ground(page):
    page.emulate_media(color_scheme="dark")
    colours = page.evaluate(
        """() => { const css = (s, p) => getComputedStyle(document.querySelector(s))[p];
        return [css('body', 'color'), css('label', 'color'), css('output', 'color'),
                css('button', 'color'), css('figcaption', 'color'), css('figure', 'background'),
                css('img', 'backgroundColor')] }"""
    )
    assert colours[0] == "rgb(255, 255, 255)"
    assert set(colours[:5]) == {colours[0]}
    assert colours[5].startswith("rgba(0, 0, 0, 0)")
    assert colours[6] == "rgb(255, 255, 255)"


@pytest.mark.browser
def test_print_shows_the_frame_and_its_value_without_the_controls(page):
    page.emulate_media(media="print")
    assert shown(page, 0) == [["dark"], "2", "2"]
    for part in ("input", "button"):
        assert not page.locator(f"figure {part}").first.is_visible()
    assert page.locator("figure output").first.is_visible()


@pytest.mark.browser
def test_it_works_where_the_html_is_put_in_by_a_script(page):
    """Notebook front ends set `innerHTML`, which runs no script element."""
    page.evaluate("() => { document.body.innerHTML = document.querySelector('figure').outerHTML }")
    page.get_by_role("button", name="next shade").click()
    assert shown(page, 0) == [["light"], "3", "3"]
