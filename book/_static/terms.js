/* A term shows its glossary entry: on hover, on focus by keyboard, and on a tap, where a second tap
   follows the link. Escape, a tap elsewhere and leaving it close it. The entries are in the page. */
(() => {
  const CLOSE = 250, OPEN = 120; // milliseconds that the pointer may take to or from an entry
  let box, shown = null, timer, before = null;

  const entry = link => document.querySelector(
    `template[data-term="${CSS.escape(decodeURIComponent(link.hash.slice(1)))}"]`);
  const term = target => target.closest?.("a.reference:has(> .std-term)");

  function hide() {
    clearTimeout(timer);
    if (!shown) return;
    shown.removeAttribute("aria-describedby");
    shown = null;
    box.hidden = true;
  }

  function place(link, x) {
    const room = document.documentElement.clientWidth, gap = 6;
    const lines = [...link.getClientRects()]; // a link may run over two lines
    const line = lines.find(r => x !== undefined && r.left <= x && x <= r.right) ?? lines[0];
    const {width, height} = box.getBoundingClientRect();
    const below = line.bottom + gap + height <= innerHeight || line.top < height + gap;
    const left = Math.max(8, Math.min(line.left, room - width - 8));
    box.style.left = `${left + scrollX}px`;
    box.style.top = `${(below ? line.bottom + gap : line.top - gap - height) + scrollY}px`;
  }

  function show(link, x) {
    clearTimeout(timer);
    const source = entry(link);
    if (!source || shown === link) return;
    hide();
    if (!box) {
      box = document.createElement("div");
      box.id = "physml-entry";
      box.setAttribute("role", "tooltip");
      box.addEventListener("pointerenter", () => clearTimeout(timer));
      box.addEventListener("pointerleave", event => event.pointerType === "mouse" && later(hide, CLOSE));
      document.body.append(box);
    }
    window.MathJax?.typesetClear?.([box]);
    box.replaceChildren(source.content.cloneNode(true));
    box.hidden = false;
    shown = link;
    link.setAttribute("aria-describedby", box.id);
    place(link, x);
    const set = window.MathJax?.typesetPromise;
    if (set && box.querySelector(".math")) {
      set([box]).then(() => {
        box.querySelectorAll("[tabindex]").forEach(e => e.removeAttribute("tabindex"));
        if (shown === link) place(link, x);
      });
    }
  }

  const later = (what, wait) => {
    clearTimeout(timer);
    timer = setTimeout(what, wait);
  };

  document.addEventListener("pointerover", event => {
    const link = term(event.target);
    if (link && event.pointerType === "mouse") later(() => show(link, event.clientX), OPEN);
  });
  document.addEventListener("pointerout", event => {
    const link = term(event.target);
    if (!link || event.pointerType !== "mouse" || link.contains(event.relatedTarget)) return;
    if (shown === link && link.matches(":focus-visible")) clearTimeout(timer);
    else later(hide, CLOSE);
  });
  document.addEventListener("focusin", event => {
    const link = term(event.target);
    if (link?.matches(":focus-visible")) show(link);
  });
  document.addEventListener("focusout", event => term(event.target) === shown && hide());
  document.addEventListener("keydown", event => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", event => {
    before = shown; // what was open when the finger came down
    if (shown && !box.contains(event.target) && term(event.target) !== shown) hide();
  });
  document.addEventListener("click", event => {
    const link = term(event.target);
    if (!link || event.pointerType !== "touch" || before === link || !entry(link)) return;
    event.preventDefault();
    show(link, event.clientX);
  });
  addEventListener("resize", hide);
})();
