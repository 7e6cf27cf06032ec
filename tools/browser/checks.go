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

// Overlaps is an expression that lists texts that cover others, that leave their box, or that are
// cut off. What is meant to be above the page is left out: its header, dialogs and notices.
const Overlaps = `(() => {
  const found = [], texts = [];
  const say = node => (node.closest('[class]')?.className || node.tagName) + ' "' + node.textContent.trim().slice(0, 60) + '"';
  const visible = (node, r) => { // the part of a rectangle that its boxes show
    let {left, right, top, bottom} = r;
    for (let box = node; box && box !== document.body; box = box.parentElement) {
      if (getComputedStyle(box).overflowX === 'visible') continue;
      const b = box.getBoundingClientRect();
      left = Math.max(left, b.left); right = Math.min(right, b.right); top = Math.max(top, b.top); bottom = Math.min(bottom, b.bottom);
    }
    return right - left > 1 && bottom - top > 1 ? {left, right, top, bottom} : null;
  };
  for (const node of document.querySelectorAll('body *')) {
    if (!node.checkVisibility() || node.closest('.skip, noscript, dialog, .u-over, header, #notice')) continue;
    const style = getComputedStyle(node);
    if (style.overflowX === 'visible' && style.display !== 'inline' && node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1) {
      found.push(say(node) + ' is ' + node.scrollWidth + ' wide in a box of ' + node.clientWidth);
    }
    if (style.overflowX !== 'visible' && style.overflowX !== 'auto' && node.scrollWidth > node.clientWidth + 1 && node.textContent.trim()) {
      found.push(say(node) + ' is cut off');
    }
    for (const child of node.childNodes) {
      if (child.nodeType !== Node.TEXT_NODE || !child.textContent.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(child);
      for (const r of range.getClientRects()) {
        const seen = visible(node, r);
        if (seen) texts.push({node, r: seen});
      }
    }
  }
  texts.sort((a, b) => a.r.top - b.r.top);
  for (let i = 0; i < texts.length; i++) {
    const a = texts[i].r;
    for (let j = i + 1; j < texts.length && texts[j].r.top < a.bottom; j++) {
      const b = texts[j].r;
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2) {
        found.push(say(texts[i].node) + ' covers ' + say(texts[j].node));
      }
    }
  }
  return [...new Set(found)].slice(0, 20);
})()`
