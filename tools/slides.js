// Starts a deck: formulas first, then the slides, each made to fit the stage.

// Where a slide holds more than the stage, its text gets smaller, down to this share.
const LEAST = 0.6;
const SLACK = 8; // pixels: the depth of a formula in the last line goes into the margin

function fit(slide) {
  const body = slide && slide.querySelector(":scope > .body");
  if (!body) return;
  const over = () =>
    body.scrollHeight > body.clientHeight + SLACK || body.scrollWidth > body.clientWidth + 1;
  for (let size = 1; over() && size > LEAST; size -= 0.02) {
    body.style.fontSize = `${size}em`;
  }
}

window.MathJax = {
  chtml: { matchFontHeight: false }, // slides are set while they are hidden
  options: { enableMenu: false },
  startup: {
    pageReady: () =>
      MathJax.startup.defaultPageReady().then(async () => {
        await document.fonts.ready;
        await Reveal.initialize({
          width: 1280,
          height: 720,
          margin: 0.02,
          center: false,
          hash: true,
          slideNumber: "c/t",
          transition: "none",
          plugins: [RevealNotes],
        });
        Reveal.on("slidechanged", (event) => fit(event.currentSlide));
        Reveal.on("pdf-ready", () => Reveal.getSlides().forEach(fit));
        fit(Reveal.getCurrentSlide());
        document.documentElement.dataset.ready = "";
      }),
  },
};
