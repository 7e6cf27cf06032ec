// What is under the pointer stays there: a click must hit what was aimed at.

const PAUSE = 300; // ms until the pointer is taken to have left

// Pointer knows whether the pointer is over some areas, which is when their order must not change.
export class Pointer {
  // spacer is an empty element above the areas. left is called when the pointer has left them.
  constructor(areas, spacer, left) {
    Object.assign(this, {spacer, left, holds: false, room: 0});
    for (const area of areas) {
      area.addEventListener('pointerenter', event => this.enter(event));
      area.addEventListener('pointerleave', () => { this.timer = setTimeout(() => this.leave(), PAUSE); });
    }
    document.addEventListener('pointermove', event => this.at(event), {passive: true});
  }

  at(event) {
    this.x = event.clientX;
    this.y = event.clientY;
  }

  enter(event) {
    this.at(event);
    clearTimeout(this.timer);
    this.holds = true;
    document.documentElement.style.overflowAnchor = 'none'; // steady does the same
  }

  leave() {
    this.holds = false;
    document.documentElement.style.overflowAnchor = '';
    this.setRoom(0);
    this.left();
  }

  setRoom(pixels) {
    this.room = pixels;
    this.spacer.style.height = pixels + 'px';
  }

  // steady calls change. If that moves the row under the pointer, because something above it has grown or shrunk, it
  // scrolls, and where it cannot scroll it makes room above.
  steady(change) {
    const row = this.holds ? document.elementFromPoint(this.x, this.y)?.closest('.service tr, .service .head') : null;
    const top = () => row.getBoundingClientRect().top;
    const before = row ? top() : 0;
    change();
    if (!row?.isConnected) return;
    const moved = top() - before;
    if (moved > 0 && this.room > 0) this.setRoom(Math.max(0, this.room - moved));
    scrollBy(0, top() - before);
    const missing = before - top();
    if (missing > 0.5) this.setRoom(this.room + missing);
  }
}
