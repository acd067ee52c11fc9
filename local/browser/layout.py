"""What is wrong with a page, as a browser lays it out."""

from typing import Any

from playwright.sync_api import Page

WIDTHS = (1280, 400)
# Problems of the page as it is shown, in words. A word of up to 24 characters is broken at a
# hyphen only; a longer one, such as a hash or an address, anywhere. The height is held against the area that the text would fill without any layout.
PROBLEMS = """
() => {
  const problems = [], root = document.documentElement, seen = element => element.checkVisibility();
  if (root.scrollWidth > innerWidth) problems.push(`the page is ${root.scrollWidth} wide, the window ${innerWidth}`);
  for (const table of [...document.querySelectorAll("table")].filter(seen))
    if (table.offsetWidth > table.parentElement.clientWidth + 1) problems.push(`a table is wider than its section: ${table.caption.textContent}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  let letters = 0;
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    if (!seen(text.parentElement) || text.parentElement.closest("script,style")) continue;
    letters += text.data.length;
    const words = [...text.data.matchAll(/\\S+/g)].filter(word => word[0].length <= 24);
    for (const word of words.flatMap(word => [...word[0].matchAll(/[^-]+-?/g)].map(part => ({0: part[0], index: word.index + part.index})))) {
      range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) problems.push(`broken word: ${word[0]}`);
    }
  }
  const rows = [...document.querySelectorAll("tr,li,dt,summary,figure")].filter(seen).length;
  const fair = 500 + rows * 60 + letters * 8 * 24 * 3 / innerWidth;
  if (root.scrollHeight > fair) problems.push(`the page is ${root.scrollHeight} high, which is more than ${Math.round(fair)}`);
  return problems;
}
"""
# Texts whose contrast with the page is less than WCAG asks of them (AA: 4.5).
PALE = """
() => {
  const light = color => { const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3)
    .map(part => part / 255).map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const pale = [...document.querySelectorAll("h1,dt,dd,summary,summary span,caption,th,td,li,b,code,figcaption")]
    .filter(element => { const front = light(getComputedStyle(element).color);
      return (Math.max(front, back) + .05) / (Math.min(front, back) + .05) < 4.5; });
  return [...new Set(pale.map(element => `too little contrast: ${element.tagName} ${element.className}`))];
}
"""
OPEN_ALL = "() => document.querySelectorAll('details').forEach(part => part.open = true)"


def texts(page: Page, script: str) -> list[str]:
    found: Any = page.evaluate(script)
    return [str(text) for text in found]


def problems(page: Page) -> list[str]:
    """At every width, as the page opens and with all that is folded opened; in the light and in the dark."""
    found = []
    for opened in (False, True):
        if opened:
            page.evaluate(OPEN_ALL)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"{text} (at {width}{', all opened' if opened else ''})" for text in texts(page, PROBLEMS)]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{text} ({scheme})" for text in texts(page, PALE)]
    page.emulate_media(color_scheme="light")
    return list(dict.fromkeys(found))
