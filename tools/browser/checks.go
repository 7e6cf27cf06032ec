package browser

// Unreadable is an expression that lists texts with less contrast to their background than WCAG 2.2
// requires (1.4.3).
const Unreadable = `(() => {
  const channels = colour => (colour.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(c => c.nodeType === Node.TEXT_NODE && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest('.skip, noscript')) continue;
    const style = getComputedStyle(node), pair = [luminance(channels(style.color)), luminance(behind(node))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
    if ((pair[0] + 0.05) / (pair[1] + 0.05) < (large ? 3 : 4.5)) bad.add(node.className + ': ' + node.textContent.slice(0, 40));
  }
  return [...bad];
})()`

// Nameless is an expression that lists controls without a name for screen readers.
const Nameless = `[...document.querySelectorAll('button, input, meter, dialog[open], [role=img]')].filter(node => node.checkVisibility() &&
  !(node.textContent.trim() || node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.labels?.length))
  .map(node => node.outerHTML.slice(0, 80))`
