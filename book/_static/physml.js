/* What the theme leaves to do in the browser. The pages can be read without it. */
(() => {
  "use strict";
  const root = document.documentElement;

  /* On paper a page is light and unfolded, whatever it is on the screen. */
  let screen = null;
  const toPaper = () => {
    if (screen) return;
    const folded = [...document.querySelectorAll("article details:not([open])")];
    screen = { theme: root.dataset.theme, folded };
    root.dataset.theme = "light";
    for (const part of folded) part.open = true;
  };
  const toScreen = () => {
    if (!screen) return;
    root.dataset.theme = screen.theme;
    for (const part of screen.folded) part.open = false;
    screen = null;
  };
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", toScreen);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? toPaper : toScreen)());

  /* The buttons of both menus say whether theirs is open; from the keyboard one comes back to them. */
  const menu = (side) => {
    const button = document.querySelector(`.${side}-toggle`);
    const dialog = document.getElementById(`pst-${side}-sidebar-modal`);
    const sidebar = document.getElementById(`pst-${side}-sidebar`);
    if (!button || !dialog || !sidebar) return;
    const wide = matchMedia("(min-width: 992px)");
    const tell = () => {
      const beside = side === "primary" && wide.matches && !dialog.open;
      const open = beside ? !sidebar.classList.contains("pst-sidebar-hidden") : dialog.open;
      button.setAttribute("aria-expanded", open);
    };
    new MutationObserver(tell).observe(sidebar, { attributeFilter: ["class"] });
    new MutationObserver(tell).observe(dialog, { attributeFilter: ["open"] });
    wide.addEventListener("change", tell);
    tell();

    let byKeyboard = false;
    button.addEventListener("click", (event) => (byKeyboard = event.detail === 0), true);
    dialog.addEventListener("close", () => byKeyboard && button.focus());
    dialog.addEventListener("click", (event) => {
      if (!event.target.closest?.('a[href^="#"]')) return;
      byKeyboard = false; // one goes on from the place that was chosen
      dialog.close();
    });
  };

  /* The list of pages shows where one is, and scrolls for it no further than it must. */
  const settle = () => {
    const sidebar = document.getElementById("pst-primary-sidebar");
    const here = [...(sidebar?.querySelectorAll(".bd-docs-nav .current > a") ?? [])].pop();
    if (!here) return;
    sidebar.scrollTop = 0;
    const over = here.getBoundingClientRect().bottom - sidebar.getBoundingClientRect().bottom;
    if (over > 0) sidebar.scrollTop = over + sidebar.clientHeight / 4;
  };

  /* What is wider than its place says in its box that it goes on. */
  const watch = (wide, box, tell = () => {}) => {
    const look = () => {
      const left = wide.scrollLeft;
      const most = wide.scrollWidth - wide.clientWidth;
      box.classList.toggle("physml-goes-on", most > 1);
      box.classList.toggle("physml-more-left", most > 1 && left > 1);
      box.classList.toggle("physml-more-right", most > 1 && left < most - 1);
      tell(most > 1);
    };
    new ResizeObserver(look).observe(box);
    wide.addEventListener("scroll", look, { passive: true });
  };

  /* What scrolls can be scrolled from the keyboard, too. */
  const watchNamed = (wide, box, name) =>
    watch(wide, box, (over) => {
      const said = { tabindex: "0", role: "group", "aria-label": `${name}, wider than its place` };
      for (const [key, value] of Object.entries(said))
        if (over) wide.setAttribute(key, value);
        else wide.removeAttribute(key);
    });

  document.addEventListener("DOMContentLoaded", () => {
    for (const side of ["primary", "secondary"]) menu(side);
  });
  addEventListener("load", () => {
    settle();
    for (const box of document.querySelectorAll(".pst-scrollable-table-container")) watch(box, box);
    for (const box of document.querySelectorAll(".physml-table")) watchNamed(box, box, "Table");
    window.MathJax?.startup?.promise?.then(() => {
      for (const formula of document.querySelectorAll("div.math > mjx-container"))
        watchNamed(formula, formula.parentElement, "Equation");
    });
  });
})();
