// The list of services: those in trouble first, the others folded if there are many.
import {el, say, mark, show, attribute, arrange, sparkline} from './dom.js';
import {DEAD, BROKEN, DRAINING, FINE, endpoint, acceptsNew, backendTrouble, serviceTrouble, si, bits, ago} from './model.js';

const FIRST = 8; // services in trouble shown above everything else; further ones begin the list
const FEW = 6; // services that are all unfolded at first
const SPARK_POINTS = 60;
const CLASSES = {[DEAD]: 'dead', [BROKEN]: 'down', [DRAINING]: 'drain', [FINE]: 'up'};
const SIGNS = {[DEAD]: '✕', [BROKEN]: '✕', [DRAINING]: '◐', [FINE]: '●'}; // colour alone is not accessible

export class ServiceList {
  // trouble is the element for broken services, root for all others.
  constructor(trouble, root, actions) {
    this.trouble = trouble;
    this.root = root;
    this.actions = actions; // drain(service, backend), enable and weight
    this.views = new Map();
    this.foldedByHand = new Map();
    this.filter = '';
    this.onlyTrouble = false;
    this.empty = el('p', {class: 'empty'});
  }

  // update shows an answer of the daemon with its figures.
  update(services, figures) {
    this.services = services;
    this.figures = figures;
    const gone = new Set(this.views.keys());
    for (const s of services) {
      gone.delete(s.name);
      if (!this.views.has(s.name)) this.views.set(s.name, new ServiceView(this, s.name));
      if (figures.measured) this.views.get(s.name).remember(figures.rates.get(s.name));
    }
    for (const name of gone) this.views.delete(name);
    this.draw();
  }

  draw() {
    if (!this.services) return;
    const sorted = this.services.map(s => ({s, trouble: serviceTrouble(s)})).sort((a, b) => a.trouble - b.trouble);
    const first = [], shown = [];
    for (const {s, trouble} of sorted) {
      if (this.onlyTrouble && trouble === FINE) continue;
      const whole = this.fits(s.name, s.protocol + ' ' + endpoint(s), s.mode, s.scheduler);
      const backends = whole ? s.backends
        : s.backends.filter(b => this.fits(endpoint(b), b.state_name, b.reason ?? '', b.last_error ?? ''));
      if (!whole && backends.length === 0) continue;
      const view = this.views.get(s.name);
      view.draw(s, backends, trouble, whole ? this.folded(s, trouble) : false);
      (trouble <= BROKEN && first.length < FIRST ? first : shown).push(view.root);
    }
    if (first.length + shown.length === 0) {
      say(this.empty, this.services.length === 0 ? 'The configuration has no services.'
        : this.filter ? 'No service matches the filter.' : 'No service is in trouble.');
      shown.push(this.empty);
    }
    show(this.trouble.parentElement, first.length > 0);
    arrange(this.trouble, first);
    arrange(this.root, shown);
  }

  fits(...texts) {
    const sought = this.filter.trim().toLowerCase();
    return texts.some(text => text.toLowerCase().includes(sought));
  }

  folded(s, trouble) {
    return this.foldedByHand.get(s.name) ?? (trouble === FINE && this.services.length > FEW);
  }

  fold(name, folded) {
    this.foldedByHand.set(name, folded);
    this.draw();
  }

  foldAll(folded) {
    for (const s of this.services ?? []) this.foldedByHand.set(s.name, folded);
    this.draw();
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
    this.state = part('chip'); this.title = part('name'); this.note = part('note'); this.where = part('where');
    this.conns = part('n conns'); this.cps = part('n cps'); this.packets = part('n packets'); this.bits = part('n bits');
    this.spark = sparkline(90, 22);
    this.head = el('button', {class: 'head', type: 'button', 'aria-expanded': 'false',
      onclick: () => list.fold(name, this.head.getAttribute('aria-expanded') === 'true')},
    this.state, el('span', {class: 'title'}, this.title, this.note, this.where), this.conns, this.cps, this.packets, this.bits, this.spark.svg);
    this.rows = el('tbody', {role: 'rowgroup'});
    this.body = el('table', {role: 'table'}, el('thead', {role: 'rowgroup'}, el('tr', {role: 'row'},
      ...['Backend', 'State', 'Weight', 'Active', 'Inactive', 'New/s', 'Packets/s', 'Bit/s', 'Actions']
        .map((text, i) => el('th', {role: 'columnheader', scope: 'col', class: i > 1 && i < 8 ? 'n' : '', text})))), this.rows);
    this.root = el('section', {class: 'service'}, el('h3', {}, this.head), this.body);
  }

  remember(rate) {
    this.history.push(rate.packetsIn + rate.packetsOut);
    if (this.history.length > SPARK_POINTS) this.history.shift();
  }

  draw(s, backends, trouble, folded) {
    const rate = this.list.figures.rates.get(s.name);
    mark(this.root, 'service ' + CLASSES[trouble]);
    mark(this.state, 'chip ' + CLASSES[trouble]);
    say(this.state, `${SIGNS[trouble]} ${s.state_name}`);
    say(this.note, s.state_note ?? '');
    say(this.title, s.name);
    say(this.where, [`${s.protocol} ${endpoint(s)}`, s.mode, s.scheduler, s.persistence_s > 0 ? `persistent ${s.persistence_s} s` : '',
      s.health_frozen ? 'CHECKS FROZEN' : ''].filter(Boolean).join(' · '));
    say(this.conns, si(s.backends.reduce((n, b) => n + b.active + b.inactive, 0)) + ' conns');
    say(this.cps, si(rate.cps) + ' new/s');
    say(this.packets, si(rate.packetsIn + rate.packetsOut) + ' packets/s');
    say(this.bits, bits(rate.bitsIn + rate.bitsOut));
    this.spark.update(this.history, SPARK_POINTS);
    attribute(this.head, 'aria-expanded', !folded);
    show(this.body, !folded);
    if (folded) return;
    const rows = [...backends].sort((a, b) => backendTrouble(a) - backendTrouble(b)).map(b => this.backend(s, b, false));
    if (s.sorry) rows.push(this.backend(s, s.sorry, true));
    arrange(this.rows, rows);
  }

  backend(s, b, sorry) {
    const id = endpoint(b);
    const key = sorry ? 'sorry ' + id : id;
    if (!this.backends.has(key)) this.backends.set(key, new BackendView(this.list.actions));
    const view = this.backends.get(key);
    view.draw(s, b, this.list.figures.rates.get(`${s.name} ${id}`), sorry);
    return view.root;
  }
}

class BackendView {
  constructor(actions) {
    const cell = (label, className, ...children) => el('td', {role: 'cell', 'data-label': label, class: className}, ...children);
    const text = className => el('span', {class: className});
    this.address = text('address'); this.why = text('why');
    this.state = text('chip'); this.since = text('since');
    this.numbers = ['Weight', 'Active', 'Inactive', 'New/s', 'Packets/s', 'Bit/s'].map(label => cell(label, 'n'));
    this.toggle = el('button', {type: 'button', class: 'small', onclick: () => actions[this.verb](this.service, this.backend)});
    this.weight = el('button', {type: 'button', class: 'small', text: 'Weight…', onclick: () => actions.weight(this.service, this.backend)});
    this.actions = cell('', 'actions', this.toggle, this.weight);
    this.root = el('tr', {role: 'row'}, cell('', 'who', this.address, this.why), cell('', 'state', this.state, this.since),
      ...this.numbers, this.actions);
  }

  draw(s, b, rate, sorry) {
    this.service = s;
    this.backend = b;
    const trouble = backendTrouble(b), id = endpoint(b);
    mark(this.root, CLASSES[trouble]);
    say(this.address, sorry ? id + ' (sorry server)' : b.mode === s.mode ? id : `${id} ${b.mode}`);
    say(this.why, why(b));
    mark(this.state, 'chip ' + CLASSES[trouble]);
    say(this.state, SIGNS[trouble] + ' ' + b.state_name);
    say(this.since, ago(b.state_since_s));
    attribute(this.since, 'title', 'in this state for');
    const weight = b.weight === b.configured_weight ? b.weight : `${b.weight} (file ${b.configured_weight})`;
    const figures = rate ?? {cps: 0, packetsIn: 0, packetsOut: 0, bitsIn: 0, bitsOut: 0};
    [weight, si(b.active), si(b.inactive), si(figures.cps), si(figures.packetsIn + figures.packetsOut), si(figures.bitsIn + figures.bitsOut)]
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
