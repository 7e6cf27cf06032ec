// Four tiles, each with present values and their course over the last minutes. uPlot draws; see lib/.
import {el, say, attribute} from './dom.js';
import {si, bits} from './model.js';

const POINTS = 300; // seconds, at one request per second
const AT_LEAST = 60; // seconds that the axis shows from the start

// TILES are the tiles: series with a CSS colour variable, and a line of text below the numbers.
const TILES = [
  {id: 'packets', title: 'Packets', write: n => si(n) + '/s', series: [['received', '--series-1', f => f.received], ['forwarded', '--series-2', f => f.forwarded]],
    words: f => [f.replied > 0 ? `${si(f.replied)}/s answered by the balancer` : '', f.toKernel > 0 ? `${si(f.toKernel)}/s to the kernel` : ''].filter(Boolean).join(', ')},
  {id: 'bits', title: 'Traffic', write: bits, series: [['in', '--series-1', f => f.sum.bitsIn], ['out', '--series-2', f => f.sum.bitsOut]],
    words: (f, s, services) => services.some(s => s.mode === 'tun' || s.mode === 'dr') ? 'replies of tun and dr do not pass through Sluice' : ''},
  {id: 'connections', title: 'Connections', write: si, series: [['in the table', '--series-1', f => f.connections]],
    words: (f, s) => `${si(f.sum.cps)} new/s, capacity ${si(s.tables.capacity)}`},
  {id: 'drops', title: 'Drops', write: n => si(n) + '/s', series: [['dropped', '--series-bad', f => f.dropped]],
    words: (f, s) => [f.drops.length ? `most: ${f.drops[0].name}` : 'none since the start',
      s.lost_in_crash > 0 ? `${si(s.lost_in_crash)} lost in crashes` : ''].filter(Boolean).join(', ')},
];

export class Charts {
  constructor(root) {
    this.times = [];
    this.tiles = TILES.map(what => new Tile(what, root));
    new ResizeObserver(() => this.tiles.forEach(t => t.fit())).observe(root);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.tiles.forEach(t => t.make(this.times)));
  }

  // update adds a measurement; without figures, a gap.
  update(at, figures, stats, services) {
    this.times.push(at / 1000);
    if (this.times.length > POINTS) this.times.shift();
    for (const tile of this.tiles) tile.update(this.times, figures, stats, services);
  }
}

class Tile {
  constructor(what, root) {
    this.what = what;
    this.data = what.series.map(() => []);
    this.values = what.series.map(() => el('span', {class: 'value'}));
    const legend = what.series.map(([name], i) => el('span', {class: `legend s${i}`},
      el('span', {class: 'swatch', 'aria-hidden': 'true'}), this.values[i], ' ', el('span', {class: 'label', text: name})));
    this.words = el('span', {class: 'words'});
    this.plot = el('div', {class: 'plot', role: 'img'});
    this.root = el('section', {class: 'tile', id: 'tile-' + what.id}, el('h2', {text: what.title}),
      el('div', {class: 'legends'}, ...legend), this.words, this.plot);
    root.append(this.root);
    this.make([]);
  }

  // span returns the range of the time axis.
  span() {
    const last = this.times.at(-1) ?? Date.now() / 1000;
    return [Math.min(this.times[0] ?? last, last - AT_LEAST), last];
  }

  make(times) {
    this.times = times;
    this.chart?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(name).trim();
    const axis = {stroke: colour('--quiet'), grid: {stroke: colour('--grid'), width: 1}, ticks: {show: false}, font: '11px system-ui, sans-serif'};
    this.chart = new uPlot({
      width: 200, height: 110, legend: {show: false}, padding: [6, 22, 0, 0],
      cursor: {y: false, drag: {x: false, y: false}, points: {show: false}},
      scales: {x: {time: true, range: () => this.span()}, y: {range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1]}},
      axes: [{...axis, size: 22, space: 70, values: [[60, '{HH}:{mm}', null, null, null, null, null, null, 1], [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1]]},
        {...axis, size: 42, space: 30, values: (_, splits) => splits.map(si)}],
      series: [{}, ...this.what.series.map(([, name]) => ({stroke: colour(name), width: 1.5, points: {show: false}, fill: colour(name) + '22'}))],
      hooks: {setCursor: [u => this.hover(u.cursor.idx)]},
    }, [times, ...this.data], this.plot);
    this.fit();
  }

  fit() {
    const {clientWidth: width, clientHeight: height} = this.plot;
    if (width > 0 && (width !== this.chart.width || height !== this.chart.height)) this.chart.setSize({width, height});
  }

  update(times, figures, stats, services) {
    this.times = times;
    this.what.series.forEach(([,, of], i) => {
      this.data[i].push(figures ? of(figures) : null);
      if (this.data[i].length > POINTS) this.data[i].shift();
    });
    this.plot.dataset.points = times.length; // for tests
    this.chart.setData([times, ...this.data]);
    if (!figures) return;
    this.hover(this.chart.cursor.idx);
    say(this.words, this.what.words(figures, stats, services));
    attribute(this.plot, 'aria-label', this.what.title + ': ' +
      this.what.series.map(([name], i) => `${name} ${this.values[i].textContent}`).join(', '));
  }

  // hover shows the values under the pointer, else the newest.
  hover(at) {
    this.values.forEach((node, i) => {
      const value = this.data[i][at ?? this.data[i].length - 1];
      say(node, value == null ? '–' : this.what.write(value));
    });
  }
}
