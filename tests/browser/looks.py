"""Checks of every page, in JavaScript, and the screens on which they run."""

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
"""A laptop and a telephone."""

OVERFLOWING = """
(() => {
  const found = [], wide = document.documentElement.clientWidth, needed = document.scrollingElement.scrollWidth;
  if (needed > wide) found.push(`the page is ${needed} wide`);
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest(".scroll") && !element.matches(".scroll")) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > wide + 1 || box.left < -1)) found.push(`${element.tagName} to ${box.right}`);
  }
  return found;
})()
"""
"""Elements that reach beyond the window, except those that scroll in a frame of their own."""

FAINT = """
(() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const drawn = canvas.getContext("2d", {willReadFrequently: true});
  const rgba = colour => { drawn.clearRect(0, 0, 1, 1); drawn.fillStyle = colour; drawn.fillRect(0, 0, 1, 1);
                           return [...drawn.getImageData(0, 0, 1, 1).data]; };
  const light = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { for (let e = element; e; e = e.parentElement) {
    const colour = rgba(getComputedStyle(e).backgroundColor); if (colour[3] == 255) return colour.slice(0, 3); }
    throw new Error("no background"); };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter(n => n.nodeType == 3).map(n => n.data.trim()).join("");
    if (!text || element.matches("style, script, title, metadata, metadata *")) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(element))], contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return found;
})()
"""
"""Words whose contrast with what is behind them is below 4.5 to 1 (WCAG 2, level AA)."""

OVERLAPPING = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([one, a], place) => { for (const [other, b] of texts.slice(place + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 0.4 * Math.min(a.height, b.height)) found.push(`${one} on ${other}`);
    } });
  }
  return found;
})()
"""
"""Overlapping words in figures; boxes of lines that follow each other closely may touch."""
