"""Figures with a slider that need no kernel: all frames are drawn first, the page turns them.

A `Flipbook` shows itself in a notebook or a built page as plain HTML: pictures, a native slider and
three buttons, with a line of script each and nothing loaded from anywhere. Where HTML is not shown,
its first picture and a sentence stand in. `live` is for where a kernel runs: it computes each frame
when the slider asks for it.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from physml.errors import check_positive, check_positive_int
from physml.plotting import DENSITY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Flipbook", "live"]

_PNG = b"\x89PNG\r\n\x1a\n"

# Colours are those of the surroundings, so that the figure follows a dark page; only the pictures
# keep a white ground. The selectors outweigh a theme's rules for `figure figcaption` and `img`.
_STYLE = """
.physml-flipbook{margin:1rem 0;color:inherit}
.physml-flipbook .flipbook-frames img{display:block;max-width:100%;height:auto;margin:0 auto;
background:#fff;border-radius:4px}
.physml-flipbook .flipbook-frames img[hidden]{display:none}
.physml-flipbook .flipbook-controls{display:flex;flex-wrap:wrap;align-items:center;
gap:.25rem 1rem;margin:.5rem 0}
.physml-flipbook label{flex:1 1 15rem;display:flex;flex-wrap:wrap;align-items:center;
gap:0 .75rem;margin:0;color:inherit}
.physml-flipbook input{flex:1 1 9rem;min-width:0;height:2.75rem;margin:0}
.physml-flipbook .flipbook-steps{flex:none;max-width:100%;display:flex;align-items:center;gap:.5rem}
.physml-flipbook output{font-weight:bold;font-variant-numeric:tabular-nums;text-align:center;
color:inherit;padding:0}
.physml-flipbook button{width:2.75rem;height:2.75rem;font:inherit;color:inherit;background:none;
border:1px solid;border-radius:4px;cursor:pointer;padding:0;flex:none}
.physml-flipbook button[aria-pressed]::before{content:"\\25B6\\FE0E"}
.physml-flipbook button[aria-pressed=true]::before{content:"\\275A\\275A"}
.physml-flipbook figcaption{margin:.25rem 0 0;padding:0;color:inherit;text-align:left}
@media print{.physml-flipbook input,.physml-flipbook button{display:none}}
"""

# Each handler finds its own figure from where it stands: no ids, so any number of flipbooks, copies
# too, share a page, and the text is the same on each run.
_TURN = (
    "const f=this.closest('figure'),i=+this.value,"
    "m=f.querySelectorAll('.flipbook-frames img'),t=m[i].dataset.label;"
    "m.forEach((g,k)=>{g.hidden=k!==i});"
    "this.setAttribute('aria-valuetext',t);"
    "f.querySelector('output').textContent=t"
)
_STEP = (
    "const s=this.closest('figure').querySelector('input');"
    "s.step{way}();s.dispatchEvent(new Event('input'))"
)
# Plays once from where the slider stands (from the start if that is the end), until pressed again.
_PLAY = (
    "const b=this,f=b.closest('figure'),s=f.querySelector('input'),"
    "go=()=>s.dispatchEvent(new Event('input')),"
    "stop=()=>{{clearInterval(f.timer);f.timer=0;b.setAttribute('aria-pressed','false')}};"
    "if(f.timer)return stop();"
    "if(s.value===s.max){{s.value=s.min;go()}}"
    "b.setAttribute('aria-pressed','true');"
    "f.timer=setInterval(()=>{{s.stepUp();go();if(s.value===s.max)stop()}},{period})"
)


@dataclass(frozen=True, repr=False)
class Flipbook:
    """Pictures of one size, one for each value of a parameter, with a slider to choose.

    Parameters
    ----------
    frames
        PNG files as bytes, all of one size in pixels.
    labels
        The value of the parameter in each frame, in words.
    alts
        What each frame shows, for those who cannot see it.
    name
        What the parameter is called, such as `"hidden units"`.
    caption
        Text under the figure.
    start
        Number of the frame that is shown first, counted from 0.
    density
        Pixels of a frame for each one on the page: 2 is sharp on a screen with fine pixels.
    period
        Seconds for which each frame stands when it plays.

    Raises
    ------
    ValueError
        If there is no frame, an entry is missing, or the frames differ in size.
    """

    frames: Sequence[bytes]
    labels: Sequence[str]
    alts: Sequence[str]
    name: str
    caption: str = ""
    start: int = 0
    density: int = 1
    period: float = 0.8

    def __post_init__(self) -> None:
        for field in ("frames", "labels", "alts"):
            value = getattr(self, field)
            if isinstance(value, str | bytes):
                raise ValueError(f"{field} must be a list with an entry for each frame")
            object.__setattr__(self, field, tuple(value))
        n = len(self.frames)
        if n == 0:
            raise ValueError("frames must hold at least one frame")
        for field in ("labels", "alts"):
            entries = getattr(self, field)
            if len(entries) != n:
                raise ValueError(f"{field} must have {n} entries, one a frame, not {len(entries)}")
            for i, entry in enumerate(entries):
                if not isinstance(entry, str) or not entry.strip():
                    raise ValueError(f"{field}[{i}] must be a text that is not empty")
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError("name must say what the slider changes")
        if isinstance(self.start, bool) or self.start not in range(n):
            raise ValueError(f"start must be the number of a frame, 0 to {n - 1}, not {self.start}")
        check_positive_int("density", self.density)
        check_positive("period", self.period)
        sizes = [_size(frame, label) for frame, label in zip(self.frames, self.labels, strict=True)]
        for size, label in zip(sizes, self.labels, strict=True):
            if size != sizes[0]:
                raise ValueError(
                    f"frame {label!r} has {size[0]} x {size[1]} pixels, the first one "
                    f"{sizes[0][0]} x {sizes[0][1]}: draw all frames at one size"
                )

    @classmethod
    def draw(
        cls,
        draw: Callable[[Any], Figure],
        values: Iterable[Any],
        *,
        name: str,
        alt: Callable[[Any], str] | str,
        label: Callable[[Any], str] | None = None,
        caption: str = "",
        start: int = 0,
        dpi: float | None = None,
        period: float = 0.8,
        moving_axes: bool = False,
    ) -> Flipbook:
        """Draw a frame for each value, in the style of `physml.plotting.style`.

        Parameters
        ----------
        draw
            Takes a value, returns a matplotlib figure of a size that does not depend on it. The
            figure is closed here.
        values
            What the slider chooses from.
        name
            What they are values of.
        alt
            What the frame of a value shows: a function of the value, or one text for all, to which
            name and value are added.
        label
            Writes a value; by default in a few digits.
        caption, start, period
            As in `Flipbook`.
        dpi
            Pixels to the inch on the page; by default those of the figure. Frames are drawn with
            `physml.plotting.DENSITY` times as many.
        moving_axes
            Let the ranges of axes and colour bars differ between frames. By default that is an
            error: what the eye compares from frame to frame must stand on one scale.

        Raises
        ------
        ValueError, TypeError
            If there are no values, a frame has another size or other axes, or `draw` returns no
            figure.
        """
        label = label or (lambda value: f"{value:g}" if isinstance(value, float) else str(value))
        values = list(values)
        labels = [label(value) for value in values]
        if callable(alt):
            alts = [alt(value) for value in values]
        else:
            alts = [f"{alt} {name}: {text}" if alt.strip() else "" for text in labels]
        # the texts are checked before the work: one pixel stands in for each frame
        texts = (labels, alts, name, caption, start, DENSITY, period)
        cls([_ONE_PIXEL] * len(values), *texts)
        frames, ranges = [], []
        for value, text in zip(values, labels, strict=True):
            frame, found = _draw(draw, value, text, dpi)
            frames.append(frame)
            ranges.append(found)
            if not moving_axes:
                _check_ranges(ranges[0], found, text)
        return cls(frames, *texts)

    def __repr__(self) -> str:
        more = f" (frame {self.start + 1} of {len(self.frames)})"
        return f"{self.name}: {self.labels[self.start]}{more}. {self.alts[self.start]}"

    def html(self) -> str:
        """Return the figure as HTML, the same text on each run."""
        width, height = self._page_size()
        lines = [f'<figure class="physml-flipbook"><style>{_STYLE}</style>']
        lines.append('<div class="flipbook-frames">')
        for i, (frame, label, alt) in enumerate(
            zip(self.frames, self.labels, self.alts, strict=True)
        ):
            hidden = "" if i == self.start else " hidden"
            lines.append(
                f'<img src="data:image/webp;base64,{base64.b64encode(_webp(frame)).decode()}" '
                f'width="{width}" height="{height}" decoding="sync" '
                f'data-label="{escape(label)}" alt="{escape(alt)}"{hidden}>'
            )
        lines.append("</div>")
        if len(self.frames) > 1:
            lines += self._controls()
        if self.caption:
            lines.append(f"<figcaption>{escape(self.caption)}</figcaption>")
        return "\n".join([*lines, "</figure>"])

    def _page_size(self) -> tuple[int, int]:
        """Width and height of a frame on the page."""
        width, height = _size(self.frames[0], self.labels[0])
        return round(width / self.density), round(height / self.density)

    def _controls(self) -> list[str]:
        name, label = escape(self.name), escape(self.labels[self.start])
        widest = max(map(len, self.labels))
        # autocomplete: a browser would else keep the slider's place over a reload, not the frame's
        slider = (
            f'<input type="range" min="0" max="{len(self.frames) - 1}" step="1" '
            f'value="{self.start}" autocomplete="off" aria-valuetext="{label}" oninput="{_TURN}">'
        )
        # the slider itself speaks its value: the text beside it is for the eye
        output = f'<output aria-live="off" style="min-width:{widest}ch">{label}</output>'
        back, forth = (
            f'<button type="button" aria-label="{way} {name}" '
            f'onclick="{_STEP.format(way=step)}">{sign}</button>'
            for way, step, sign in (("previous", "Down", "&#8249;"), ("next", "Up", "&#8250;"))
        )
        play = (
            f'<button type="button" aria-label="play {name}" aria-pressed="false" '
            f'onclick="{_PLAY.format(period=round(1000 * self.period))}"></button>'
        )
        return [
            f'<div class="flipbook-controls"><label><span>{name}</span>{slider}</label>',
            f'<div class="flipbook-steps">{play}{back}{output}{forth}</div></div>',
        ]

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, dict]]:
        width, height = self._page_size()
        data = {
            "text/html": self.html(),
            "image/png": base64.b64encode(self.frames[self.start]).decode(),
            "text/plain": repr(self),
        }
        return data, {"image/png": {"width": width, "height": height}}


def live(function: Callable[..., Any], **sliders: Iterable[Any]) -> Any:
    """Return sliders that call `function` anew at each move, where a kernel runs.

    Parameters
    ----------
    function
        Called with one value for each slider, by name; what it returns is shown. A matplotlib
        figure is closed after that.
    **sliders
        The values that each slider chooses from; it starts in the middle.

    Returns
    -------
    ipywidgets.Box
        For ipywidgets 7.7 (as in Colab) and 8.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    ValueError
        If there is no slider, or one without values.
    """
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError as error:
        raise ImportError(
            "live() needs ipywidgets and a running notebook: pip install ipywidgets "
            "(a Flipbook needs neither)"
        ) from error
    if not sliders:
        raise ValueError("sliders must name at least one argument of the function")
    controls = {}
    for name, values in sliders.items():
        values = [v.item() if hasattr(v, "item") else v for v in values]
        if not values:
            raise ValueError(f"sliders: {name} has no values to choose from")
        options = [(f"{v:g}" if isinstance(v, float) else str(v), v) for v in values]
        controls[name] = ipywidgets.SelectionSlider(
            options=options,
            index=len(values) // 2,
            description=name,
            continuous_update=False,
            style={"description_width": "initial"},
        )

    def show(**chosen: Any) -> None:
        result = function(**chosen)
        if result is not None:
            display(result)
        if hasattr(result, "savefig"):
            import matplotlib.pyplot as plt

            plt.close(result)  # or the notebook would show it once more

    output = ipywidgets.interactive_output(show, controls)
    return ipywidgets.VBox([*controls.values(), output])


def _size(frame: bytes, label: str) -> tuple[int, int]:
    """Return width and height in pixels from the head of a PNG file."""
    if not isinstance(frame, bytes) or not frame.startswith(_PNG) or len(frame) < 33:
        raise ValueError(f"frame {label!r} must be a PNG file as bytes")
    return struct.unpack(">2I", frame[16:24])


def _webp(frame: bytes) -> bytes:
    """Return a PNG as WebP without loss: the same picture in half the bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(frame)).convert("RGB").save(stream, "webp", lossless=True, quality=100)
    return stream.getvalue()


# as much of a PNG file as `_size` looks at
_ONE_PIXEL = _PNG + struct.pack(">I4s2I", 13, b"IHDR", 1, 1) + bytes(9)


# ranges of the axes that are seen, named by what they are
_Ranges = dict[str, tuple[float, float]]


def _draw(
    draw: Callable[[Any], Figure], value: Any, label: str, dpi: float | None
) -> tuple[bytes, _Ranges]:
    """Return a frame as PNG, and the ranges of its axes."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

    from physml import plotting

    stream = io.BytesIO()
    with plotting.style():
        try:
            figure = draw(value)
        except Exception as error:
            error.add_note(f"while drawing the frame {label!r}")
            raise
        if not isinstance(figure, Figure):
            raise TypeError(
                f"draw must return a matplotlib figure; for {label!r} it returned "
                f"{type(figure).__name__}"
            )
        try:
            figure.savefig(stream, format="png", dpi=DENSITY * (dpi or figure.dpi))
            ranges = _ranges(figure)
        finally:
            plt.close(figure)
    picture = Image.open(stream).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(ground, picture).convert("RGB")
    # a drawing has few colours: a palette makes the file three times smaller and looks the same
    picture = picture.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, format="png", optimize=True)
    return stream.getvalue(), ranges


def _ranges(figure: Figure) -> _Ranges:
    """Return the range of each axis that has numbers to be read off."""
    seen: _Ranges = {}
    for number, ax in enumerate(figure.axes, 1):
        for name, axis, limits in (
            ("x", ax.xaxis, ax.get_xlim()),
            ("y", ax.yaxis, ax.get_ylim()),
        ):
            if ax.axison and any(label.get_text() for label in axis.get_ticklabels()):
                seen[f"{name} axis of panel {number}"] = limits
    return seen


def _check_ranges(first: _Ranges, here: _Ranges, label: str) -> None:
    for name in first.keys() & here.keys():
        (a, b), (c, d) = first[name], here[name]
        if abs(a - c) + abs(b - d) > 1e-6 * (abs(a) + abs(b) + abs(b - a)):
            raise ValueError(
                f"the {name} runs from {c:.4g} to {d:.4g} in frame {label!r}, and from {a:.4g} to "
                f"{b:.4g} in the first one: give all frames one range (or moving_axes=True)"
            )
