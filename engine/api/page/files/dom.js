// All elements are made here. The daemon's texts are inserted as text, never as markup: names and errors are not
// trusted.

// el returns a new element. Of props, class and text are short for className and textContent; those that begin with "on"
// are listeners; the rest are attributes.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'class') node.className = value;
    else if (name === 'text') node.textContent = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// say sets a text if it differs: an unneeded assignment would end a selection and make screen readers speak.
export function say(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, className) {
  if (node.className !== className) node.className = className;
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

export function attribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// arrange makes children the only ones of parent, in order, and moves no more nodes than it must. A node that is
// moved while it has the focus keeps it.
export function arrange(parent, children) {
  const focused = document.activeElement;
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let moved = false;
  children.forEach((child, i) => {
    if (parent.children[i] !== child) {
      parent.insertBefore(child, parent.children[i] ?? null);
      moved = true;
    }
  });
  if (moved && focused !== document.activeElement && focused?.isConnected) focused.focus({preventScroll: true});
}

const SVG = 'http://www.w3.org/2000/svg';

// sparkline returns a small drawing without text, beside numbers of the same content; update sets its values.
export function sparkline(width, height) {
  const svg = document.createElementNS(SVG, 'svg');
  const line = document.createElementNS(SVG, 'polyline');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('spark');
  svg.append(line);
  const update = (values, columns) => {
    const greatest = Math.max(...values, 1e-9), first = columns - values.length;
    line.setAttribute('points', values.map((v, i) =>
      `${((first + i) / (columns - 1) * width).toFixed(1)},${(height - 1 - v / greatest * (height - 2)).toFixed(1)}`).join(' '));
  };
  return {svg, update};
}
