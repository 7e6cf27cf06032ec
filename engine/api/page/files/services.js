// The list of services: those in trouble first, the others folded if there are many.
import {el, say, mark, show, attribute, arrange, sparkline} from './dom.js';
import {Pointer} from './pointer.js';
import {DEAD, BROKEN, DRAINING, FINE, endpoint, backendTrouble, serviceTrouble, si, bits, ago} from './model.js';

const FIRST = 8; // services in trouble shown above everything else; further ones begin the list
const FEW = 6; // services that are all unfolded at first
const ROWS = 24; // backends of services in trouble that are unfolded at first
const SPARK_POINTS = 60;
const CLASSES = {[DEAD]: 'dead', [BROKEN]: 'down', [DRAINING]: 'drain', [FINE]: 'up'};
const SIGNS = {[DEAD]: '✕', [BROKEN]: '✕', [DRAINING]: '◐', [FINE]: '●'}; // colour alone is not accessible

export class ServiceList {
  // trouble is the element for broken services, root for all others, spacer an empty one above both.
  constructor(trouble, root, spacer, actions) {
    Object.assign(this, {trouble, root, actions}); // actions: drain(service, backend), enable and weight
    this.views = new Map();
    this.foldedByHand = new Map();
    this.filter = '';
    this.onlyTrouble = false;
    this.empty = el('p', {class: 'empty'});
    this.pointer = new Pointer([trouble, root], spacer, () => this.draw());
  }

  // update shows an answer of the daemon with its figures.
  update(services, figures) {
    this.services = services;
    this.figures = figures;
    for (const s of services) {
      if (!this.views.has(s.name)) this.views.set(s.name, new ServiceView(this, s.name));
      if (figures.measured) this.views.get(s.name).remember(figures.rates.get(s.name));
    }
    this.draw();
  }

  // draw shows the services. While the pointer is over them they stay where they are, removed ones included, unless reorder
  // is set: then the user has asked for another order.
  draw(reorder = false) {
    if (!this.services) return;
    const held = this.pointer.holds && !reorder && Boolean(this.order);
    const now = new Map(this.services.map(s => [s.name, s]));
    if (held) this.append();
    else this.order = this.layout();
    const {first, shown, folded} = this.order;
    for (const name of [...first, ...shown]) {
      const view = this.views.get(name), s = now.get(name);
      if (s) view.draw(s, folded.get(name), held);
      else view.remove();
    }
    if (!held) for (const name of this.views.keys()) if (!now.has(name)) this.views.delete(name);
    const root = shown.map(name => this.views.get(name).root);
    if (shown.length === 0) {
      say(this.empty, this.services.length === 0 ? 'The configuration has no services.'
        : first.length > 0 ? 'All services that are shown are in trouble: see above.'
        : this.filter ? 'No service matches the filter.' : 'No service is in trouble.');
      root.push(this.empty);
    }
    show(this.trouble.parentElement, first.length > 0);
    arrange(this.trouble, first.map(name => this.views.get(name).root));
    arrange(this.root, root);
  }

  // layout returns the names of the services above everything else and of those in the list, the worst first, and
  // whether each is folded.
  layout() {
    const sorted = this.services.map(s => ({s, trouble: serviceTrouble(s)})).sort((a, b) => a.trouble - b.trouble);
    const order = {first: [], shown: [], folded: new Map()};
    let rows = 0;
    for (const {s, trouble} of sorted) {
      if (this.onlyTrouble && trouble === FINE) continue;
      const whole = this.whole(s), backends = this.matching(s);
      if (!whole && backends.length === 0) continue;
      (trouble <= BROKEN && order.first.length < FIRST ? order.first : order.shown).push(s.name);
      const folded = whole && (this.foldedByHand.get(s.name) ??
        (trouble === FINE ? this.services.length > FEW : rows > 0 && rows + backends.length > ROWS));
      order.folded.set(s.name, folded);
      if (!folded) rows += backends.length;
    }
    return order;
  }

  // append adds new services at the end.
  append() {
    const {folded, shown} = this.order;
    for (const s of this.services) {
      if (folded.has(s.name) || this.onlyTrouble && serviceTrouble(s) === FINE || !this.whole(s)) continue;
      shown.push(s.name);
      folded.set(s.name, true);
    }
  }

  // whole reports whether the filter shows a service with all of its backends.
  whole(s) {
    return this.fits(s.name, s.protocol + ' ' + endpoint(s), s.mode, s.scheduler);
  }

  // matching returns the backends of a service that the filter shows.
  matching(s) {
    return this.whole(s) ? s.backends : s.backends.filter(b => this.fits(endpoint(b), b.state_name, b.reason ?? '', b.last_error ?? ''));
  }

  fits(...texts) {
    const sought = this.filter.trim().toLowerCase();
    return texts.some(text => text.toLowerCase().includes(sought));
  }

  fold(name, folded) {
    this.foldedByHand.set(name, folded);
    this.order.folded.set(name, folded);
    this.draw();
  }

  foldAll(folded) {
    for (const s of this.services ?? []) this.foldedByHand.set(s.name, folded);
    this.draw(true);
  }
}

// ServiceView is one service. Its nodes stay; their texts change.
class ServiceView {
  constructor(list, name) {
    this.list = list;
    this.name = name;
    this.history = [];
    this.backends = new Map();
    const part = (className, tag = 'span') => el(tag, {class: className});
    this.state = part('chip'); this.title = part('name'); this.note = part('note'); this.where = part('where'); this.refused = part('refused');
    this.conns = part('n conns'); this.cps = part('n cps'); this.packets = part('n packets'); this.bits = part('n bits');
    this.spark = sparkline(90, 22);
    this.head = el('button', {class: 'head', type: 'button', 'aria-expanded': 'false',
      onclick: () => list.fold(name, this.head.getAttribute('aria-expanded') === 'true')},
    this.state, el('span', {class: 'title'}, this.title, this.note, this.where, this.refused), this.conns, this.cps, this.packets, this.bits, this.spark.svg);
    this.rows = el('tbody', {role: 'rowgroup'});
    this.body = el('table', {role: 'table'}, el('thead', {role: 'rowgroup'}, el('tr', {role: 'row'},
      ...['Backend', 'State', 'Since', 'Weight', 'Active', 'Inactive', 'New/s', 'Packets/s', 'Bit/s', 'Actions', 'Why']
        .map((text, i) => el('th', {role: 'columnheader', scope: 'col', class: i > 2 && i < 9 ? 'n' : '', text})))), this.rows);
    this.root = el('section', {class: 'service'}, el('h3', {}, this.head), this.body);
  }

  remember(rate) {
    this.history.push(rate.packetsIn + rate.packetsOut);
    if (this.history.length > SPARK_POINTS) this.history.shift();
  }

  // draw shows the service. If held, its rows stay where they are.
  draw(s, folded, held) {
    const rate = this.list.figures.rates.get(s.name), trouble = serviceTrouble(s);
    mark(this.root, 'service ' + CLASSES[trouble]);
    mark(this.state, 'chip ' + CLASSES[trouble]);
    say(this.state, `${SIGNS[trouble]} ${s.state_name}`);
    say(this.title, s.name);
    say(this.note, s.state_note ?? '');
    say(this.where, [`${s.protocol} ${endpoint(s)}`, s.mode, s.scheduler, s.persistence_s > 0 ? `persistent ${s.persistence_s} s` : '',
      s.health_frozen ? 'CHECKS FROZEN' : ''].filter(Boolean).join(' · '));
    say(this.refused, s.refused_note ?? '');
    show(this.refused, Boolean(s.refused_note));
    say(this.conns, si(s.backends.reduce((n, b) => n + b.active + b.inactive, 0)) + ' conns');
    say(this.cps, si(rate.cps) + ' new/s');
    say(this.packets, si(rate.packetsIn + rate.packetsOut) + ' packets/s');
    say(this.bits, bits(rate.bitsIn + rate.bitsOut));
    this.spark.update(this.history, SPARK_POINTS);
    attribute(this.head, 'aria-expanded', !folded);
    show(this.body, !folded);
    const rows = folded ? [] : [...this.list.matching(s)].sort((a, b) => backendTrouble(a) - backendTrouble(b)).map(b => this.backend(s, b, false));
    if (s.sorry && !folded) rows.push(this.backend(s, s.sorry, true));
    const before = held && !folded ? [...this.rows.children] : [];
    for (const root of before) if (!rows.includes(root)) markRemoved(root);
    arrange(this.rows, [...before, ...rows.filter(root => !before.includes(root))]);
  }

  // remove shows that the service is no longer configured.
  remove() {
    say(this.state, 'removed');
    say(this.note, '');
    markRemoved(this.root);
  }

  // backend returns the row of a backend.
  backend(s, b, sorry) {
    const id = endpoint(b);
    const key = sorry ? 'sorry ' + id : id;
    if (!this.backends.has(key)) this.backends.set(key, new BackendView(this.list.actions));
    const view = this.backends.get(key);
    view.draw(s, b, this.list.figures.rates.get(`${s.name} ${id}`), sorry);
    return view.root;
  }
}

// markRemoved marks what stays only until the pointer has left it.
function markRemoved(node) {
  node.classList.add('removed');
  for (const button of node.querySelectorAll('button.small')) button.disabled = true;
}

class BackendView {
  constructor(actions) {
    const cell = (label, className, ...children) => el('td', {role: 'cell', 'data-label': label, class: className}, ...children);
    const text = className => el('span', {class: className});
    this.address = text('address');
    this.mode = text('mode'); this.state = text('chip');
    this.since = cell('Since', 'since'); this.reason = cell('Why', 'why');
    this.value = text('value'); this.file = text('file');
    const numbers = ['Active', 'Inactive', 'New/s', 'Packets/s', 'Bit/s'].map(label => cell(label, 'n'));
    this.numbers = [this.value, ...numbers];
    this.toggle = el('button', {type: 'button', class: 'small', onclick: () => actions[this.verb](this.service, this.backend)});
    this.weight = el('button', {type: 'button', class: 'small', text: 'Weight…', onclick: () => actions.weight(this.service, this.backend)});
    this.actions = cell('', 'actions', this.toggle, this.weight);
    this.root = el('tr', {role: 'row'}, cell('', 'who', this.address, ' ', this.mode), cell('', 'state', this.state), this.since,
      cell('Weight', 'n', this.value, ' ', this.file), ...numbers, this.actions, this.reason);
  }

  draw(s, b, rate, sorry) {
    this.service = s;
    this.backend = b;
    const trouble = backendTrouble(b), id = endpoint(b);
    mark(this.root, CLASSES[trouble]);
    this.toggle.disabled = this.weight.disabled = false;
    say(this.address, id);
    say(this.mode, sorry ? 'sorry server' : b.mode === s.mode ? '' : b.mode);
    say(this.reason, why(b));
    show(this.reason, this.reason.textContent !== '');
    mark(this.state, 'chip ' + CLASSES[trouble]);
    say(this.state, SIGNS[trouble] + ' ' + b.state_name);
    say(this.since, ago(b.state_since_s));
    attribute(this.since, 'title', 'in this state for');
    say(this.file, b.weight === b.configured_weight ? '' : `(file ${b.configured_weight})`);
    const figures = rate ?? {cps: 0, packetsIn: 0, packetsOut: 0, bitsIn: 0, bitsOut: 0};
    [b.weight, si(b.active), si(b.inactive), si(figures.cps), si(figures.packetsIn + figures.packetsOut), si(figures.bitsIn + figures.bitsOut)]
      .forEach((value, i) => say(this.numbers[i], value));
    show(this.toggle, !sorry);
    show(this.weight, !sorry);
    this.verb = b.weight > 0 ? 'drain' : 'enable';
    say(this.toggle, b.weight > 0 ? 'Drain' : 'Enable');
    attribute(this.toggle, 'aria-label', `${this.verb} ${id} of ${s.name}`);
    attribute(this.weight, 'aria-label', `weight of ${id} of ${s.name}`);
  }
}

// why returns the reason of a state, and the result of the last check if that adds something.
function why(b) {
  const parts = [b.reason || ''];
  if (b.last_error && !parts[0].includes(b.last_error)) parts.push('last check: ' + b.last_error);
  return parts.filter(Boolean).join('; ');
}
