// Workers, drops and ports.
import {el, say, mark, show, arrange, attribute} from './dom.js';
import {si, ago} from './model.js';

const BUSY = 0.9; // above this a worker has little capacity left

export class Machine {
  constructor(workers, drops, ports) {
    Object.assign(this, {workers, drops, ports});
    this.nodes = new Map();
    this.reasons = new Map();
  }

  // explain sets the meanings of the drop reasons.
  explain(reasons) {
    for (const {name, text} of reasons) this.reasons.set(name, text);
  }

  update(stats, figures) {
    arrange(this.workers, (stats.workers ?? []).map((w, i) => this.worker(w, figures.busy[i])));
    arrange(this.drops, figures.drops.length ? figures.drops.map(d => this.drop(d)) : [this.node('no drops', () => el('li', {class: 'empty', text: 'none since the start'}))]);
    arrange(this.ports, (stats.ports ?? []).map(p => this.port(p)));
  }

  // node returns the element of a name, and creates it once.
  node(name, make) {
    if (!this.nodes.has(name)) this.nodes.set(name, make());
    return this.nodes.get(name);
  }

  worker(w, busy) {
    const item = this.node('worker ' + w.worker, () => el('li', {},
      el('span', {class: 'label', text: `worker ${w.worker}`}), el('meter', {min: 0, max: 1, high: BUSY, optimum: 0}), el('span', {class: 'n'})));
    const [label, meter, number] = item.children;
    attribute(item, 'title', `CPU ${w.cpu}, ${si(w.connections)} connections, ${w.packets_per_batch.toFixed(1)} packets per batch`);
    attribute(meter, 'aria-label', label.textContent + ' busy');
    meter.value = busy;
    say(number, w.stuck_s ? `STUCK for ${ago(w.stuck_s)}` : (100 * busy).toFixed(0) + ' %');
    mark(item, w.stuck_s || busy > BUSY ? 'down' : '');
    return item;
  }

  drop(d) {
    const item = this.node('drop ' + d.name, () => el('li', {}, el('span', {class: 'label'}), el('span', {class: 'n'}), el('span', {class: 'meaning'})));
    const [label, number, meaning] = item.children;
    say(label, d.name);
    say(number, `${si(d.rate)}/s, ${si(d.total)} in total`);
    say(meaning, this.reasons.get(d.name) ?? '');
    mark(item, d.rate > 0 ? 'drain' : '');
    return item;
  }

  port(p) {
    const item = this.node('port ' + p.name, () => el('li', {}, el('span', {class: 'label'}), el('span', {class: 'n'}), el('span', {class: 'meaning'})));
    const [label, state, words] = item.children;
    const sum = field => (p.queues ?? []).reduce((n, q) => n + q[field], 0);
    const lost = [[sum('kernel_rx_ring_full'), 'RX ring full'], [sum('kernel_rx_fill_ring_empty_descs'), 'no free frame'],
      [sum('kernel_rx_dropped'), 'dropped by the kernel'], [sum('tx_ring_full'), 'TX ring full']].filter(([n]) => n > 0);
    say(label, p.name);
    say(state, `${p.up ? 'link up' : 'LINK DOWN'}, ${p.io}`);
    say(words, lost.map(([n, what]) => `${si(n)} ${what}`).join(', '));
    show(words, lost.length > 0);
    mark(item, p.up ? '' : 'down');
    return item;
  }
}

// Log lists the changes while the page was open, the newest first.
export class Log {
  constructor(root) {
    this.root = root;
    this.states = null;
  }

  add(text, className = '') {
    this.root.prepend(el('li', {class: className}, el('time', {text: new Date().toTimeString().slice(0, 8)}), ' ' + text));
    while (this.root.children.length > 50) this.root.lastChild.remove();
  }

  // update compares the states of backends with the previous ones.
  update(services, endpoint) {
    const states = new Map();
    for (const s of services) for (const b of s.backends) states.set(`${s.name} ${endpoint(b)}`, b);
    const name = b => b.protected ? b.state_name : b.state; // the portion of a slow start is no change
    for (const [id, b] of this.states ? states : []) {
      const before = this.states.get(id);
      const since = before && name(before) !== name(b) ? ` after ${ago(before.state_since_s) || 'some time'}` : '';
      const why = b.reason ? ': ' + b.reason : '';
      if (!before) this.add(`${id} added: ${name(b)}`);
      else if (name(before) !== name(b)) this.add(`${id} ${name(before)} → ${name(b)}${since}${why}`, b.state);
      else if (before.weight !== b.weight) this.add(`${id} weight ${before.weight} → ${b.weight}`);
    }
    for (const id of this.states?.keys() ?? []) if (!states.has(id)) this.add(`${id} removed`);
    this.states = states;
  }
}
