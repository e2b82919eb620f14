/* Shows what Sphinx's search finds: each place once, by its title, with a sentence of the page. It
   needs no server, for the sentences are in searchtexts.js. (Sphinx fetches each page and cuts a
   piece out of it, buttons, menus and TeX included.) */
(() => {
  "use strict";

  const LONG = 260; // characters of an excerpt
  const stemmer = new Stemmer();
  const wordsOf = (text) => text.match(/[\p{L}\p{N}_]+/gu) ?? [];

  // Names of the library come after the text that uses them.
  Scorer.score = ([docname, , , , score]) => (docname.startsWith("library") ? score - 1000 : score);

  /* How many of the words that are searched stand in a text, as whole words or as their beginning. */
  const count = (text, stems) => {
    const seen = new Set(wordsOf(text).map((word) => stemmer.stemWord(word)));
    return [...stems].filter((stem) => seen.has(stem)).length;
  };

  /* The sentences to show: from the first that says most of what is searched. */
  const excerpt = (docname, anchor, stems) => {
    const sections = searchTexts[docname] ?? [];
    const here = sections.filter(([id]) => "#" + id === anchor);
    const ordered = here.length ? here : sections;
    let best = { number: 0, text: ordered.find(([, , said]) => said.length)?.[2] ?? [] };
    for (const [, , said] of ordered)
      said.forEach((sentence, i) => {
        const number = count(sentence, stems);
        if (number > best.number) best = { number, text: said.slice(i) };
      });
    const [first = "", ...rest] = best.text;
    let text = first;
    for (const next of rest) {
      if (text.length + next.length > LONG) break;
      text += " " + next;
    }
    return text.length > 2 * LONG ? text.slice(0, 2 * LONG).replace(/\s\S*$/, " …") : text;
  };

  /* A text in which the words that are searched are marked. */
  const marked = (text, stems) => {
    const paragraph = document.createElement("p");
    paragraph.className = "context";
    for (const part of text.split(/([\p{L}\p{N}_]+)/u)) {
      const mark = stems.has(stemmer.stemWord(part)) && document.createElement("mark");
      if (mark) mark.textContent = part;
      paragraph.append(mark || part);
    }
    return paragraph;
  };

  const plainText = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent;

  Search.query = (query) => {
    const parsed = Search._parseQuery(query);
    const stems = parsed[1];
    parsed[0] = british(query.toLowerCase()); // for titles and index entries, which are not stemmed
    const names = new Set();
    for (const [docname, title, anchor, kind] of Search._performSearch(...parsed).reverse()) {
      let name = plainText(title);
      const heading = (searchTexts[docname] ?? []).find(([id]) => anchor && "#" + id === anchor)?.[1];
      if (heading && !name.includes(heading)) name += " > " + heading;
      if (names.has(name)) continue;
      names.add(name);
      const item = document.createElement("li");
      const link = item.appendChild(document.createElement("a"));
      link.href = docname + DOCUMENTATION_OPTIONS.LINK_SUFFIX + anchor;
      link.textContent = name;
      if (kind) item.append(` (${kind})`);
      const text = excerpt(docname, anchor, stems);
      if (text) item.append(marked(text, stems));
      Search.output.append(item);
    }
    _finishSearch(names.size);
    if (names.size)
      Search.status.textContent = `${names.size} ${names.size === 1 ? "place" : "places"} found.`;
  };
})();
