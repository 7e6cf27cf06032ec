// The page: requests the daemon's state once a second and shows it.
import {el, say, mark, show, arrange} from './dom.js';
import {DEAD, endpoint, serviceTrouble, sumStates, stateText, compare, count, ago} from './model.js';
import {snapshot, reasons, token, Refused} from './daemon.js';
import {ServiceList} from './services.js';
import {Charts} from './charts.js';
import {Machine, Log} from './machine.js';
import {Actions} from './actions.js';

const INTERVAL = 1000; // ms
// How long after the time of the next request an answer is overdue, in ms. A daemon with a worker that does not answer
// takes a second.
const OVERDUE = 1500;
const LOOK = 250; // ms between two looks at whether one is

const $ = id => document.getElementById(id);
let last = null; // the newest snapshot
let lostSince = 0; // when the daemon stopped answering; 0: it answers
let refused = false; // the daemon answers, but not without its token
let explained = false;

const actions = new Actions({
  done: text => { log.add(text); notice(text); },
  changedToken: () => { drawToken(); poll(); },
});
const list = new ServiceList($('broken'), $('services'), $('spacer'), actions);
const charts = new Charts($('tiles'));
const machine = new Machine($('workers'), $('drops'), $('ports'));
const log = new Log($('log'));

// notice shows an event for some seconds, and announces it to screen readers.
let noticeTimer;
function notice(text) {
  say($('notice'), text);
  show($('notice'), true);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => show($('notice'), false), 8000);
}

let timer, asking = false;
async function poll() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  const began = Date.now();
  try {
    const now = await snapshot();
    list.pointer.steady(() => accept(now));
  } catch (failure) {
    list.pointer.steady(() => lose(failure));
  } finally {
    asking = false;
    timer = setTimeout(poll, Math.max(0, INTERVAL - (Date.now() - began)));
  }
}

function accept(now) {
  const restarted = last && now.stats.uptime_s < last.stats.uptime_s;
  if (restarted) say_('The daemon has restarted: its counters start at 0.');
  else if (lostSince) say_(`The daemon answers again, after ${ago((Date.now() - (last?.at ?? lostSince)) / 1000)}.`);
  lostSince = 0;
  refused = false;
  const before = restarted ? null : last;
  const figures = compare(before, now);
  last = now;
  mark(document.body, '');
  drawStatus(now);
  drawAttention(now);
  list.update(now.services, figures);
  if (before) charts.update(now.at, figures, now.stats, now.services);
  machine.update(now.stats, figures);
  log.update(now.services, endpoint);
  say($('version'), `${now.stats.version}, up ${ago(now.stats.uptime_s)}`);
  if (!explained) {
    explained = true;
    reasons().then(all => machine.explain(all), () => { explained = false; });
  }
}

function say_(text) {
  log.add(text);
  notice(text);
}

// lose shows that the daemon does not answer. The old data stays, marked as such.
function lose(failure) {
  if (failure instanceof Refused && (failure.status === 401 || failure.status === 403)) {
    refused = true;
    status('down', 'The daemon requires its token', failure.message);
    show($('give-token'), true);
    return;
  }
  if (last) charts.update(Date.now(), null);
  drawLost(failure instanceof Refused ? failure.message : '');
}

function drawLost(why) {
  lostSince ||= Date.now();
  mark(document.body, 'stale');
  const since = last ? `No data since ${new Date(last.at).toTimeString().slice(0, 8)}` : 'No answer from the daemon';
  status('down', `${since}, for ${ago((Date.now() - (last?.at ?? lostSince)) / 1000)}`,
    `Trying again every second. ${last ? 'The data below is old.' : ''} ${why}`);
}

// A daemon that is suspended takes requests and does not answer them. A page that was suspended, or that is late itself,
// has an answer to show first.
let looked = Date.now();
setInterval(() => {
  const late = Date.now() - looked > 2 * LOOK;
  looked = Date.now();
  if (late || !last || refused || document.hidden) return;
  if (Date.now() - last.at > INTERVAL + OVERDUE) list.pointer.steady(() => drawLost(''));
}, LOOK);

function status(className, sentence, details = '') {
  mark($('status'), className);
  say($('sentence'), sentence);
  say($('details'), details);
}

// drawStatus shows in one sentence what is wrong, worst first.
function drawStatus({services, stats}) {
  const backends = sumStates(services);
  const dead = services.filter(s => serviceTrouble(s) === DEAD).length;
  const links = (stats.ports ?? []).filter(p => !p.up).map(p => p.name);
  const bad = [];
  if (dead) bad.push(`services ${dead}/${services.length} dead`);
  const stuck = (stats.workers ?? []).filter(w => w.stuck_s).map(w => w.worker);
  if (stuck.length) bad.push(`${stuck.length === 1 ? 'worker' : 'workers'} ${stuck.join(', ')} stuck`);
  if (links.length) bad.push('link down: ' + links.join(', '));
  if (backends.down) bad.push('backends ' + stateText(backends));
  const all = [...bad];
  if (!backends.down && backends.drain) all.push('backends ' + stateText(backends));
  if (all.length === 0) all.push(services.length ? 'no problems' : 'no services configured');
  const size = `${count(services.length, 'service', 'services')}, ${count(backends.total, 'backend', 'backends')}`;
  status(bad.length ? 'down' : backends.drain ? 'drain' : 'up', all.join(', '), size);
  document.title = (bad.length ? `✕ ${bad[0]} – ` : '') + 'Sluice';
}

// drawAttention lists what the daemon reports in need of attention.
let alarms = [];
function drawAttention({attention}) {
  if (attention.join('\n') !== alarms.join('\n')) arrange($('alarms'), attention.map(text => el('li', {text})));
  alarms = attention;
  show($('alarms'), attention.length > 0);
}

function drawToken() {
  show($('give-token'), true);
  say($('give-token'), token.get() ? 'Forget token' : 'Enter token');
}

$('give-token').addEventListener('click', () => {
  if (token.get()) {
    token.set('');
    drawToken();
    notice('The token is forgotten.');
  } else {
    actions.askToken('Changes need it, and reads if [api] reads is configured so.');
  }
});
$('filter').addEventListener('input', event => { list.filter = event.target.value; list.draw(true); });
$('only').addEventListener('change', event => { list.onlyTrouble = event.target.checked; list.draw(true); });
$('unfold').addEventListener('click', () => list.foldAll(false));
$('fold').addEventListener('click', () => list.foldAll(true));
document.addEventListener('keydown', event => {
  const writing = event.target.matches?.('input, textarea') || document.querySelector('dialog[open]');
  if (event.key === '/' && !writing) {
    event.preventDefault();
    $('filter').focus();
  } else if (event.key === 'Escape' && event.target === $('filter')) {
    $('filter').value = list.filter = '';
    list.draw(true);
  }
});
document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });

drawToken();
poll();
