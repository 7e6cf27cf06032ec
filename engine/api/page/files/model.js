// Figures from two answers of the daemon, and their formats. No DOM here.

// Degrees of trouble, the worst first: the order of the list.
export const DEAD = 0, BROKEN = 1, DRAINING = 2, FINE = 3;

// endpoint returns the text that identifies a backend within its service, as the daemon does.
export function endpoint(of) {
  return (of.address.includes(':') ? `[${of.address}]` : of.address) + ':' + of.port;
}

// acceptsNew reports whether a backend gets new connections: a protected one does although its checks fail.
export function acceptsNew(backend) {
  return backend.state === 'up' || Boolean(backend.protected);
}

export function backendTrouble(backend) {
  if (backend.state === 'up' || backend.state === 'standby') return FINE;
  return backend.state === 'drain' ? DRAINING : BROKEN;
}

export function serviceTrouble(service) {
  if (!service.backends.some(acceptsNew)) return DEAD;
  return Math.min(service.pressure || service.first_packets?.flood ? DRAINING : FINE, ...service.backends.map(backendTrouble));
}

// sumStates adds up the numbers of backends by state.
export function sumStates(services) {
  const sum = {total: 0, up: 0, down: 0, drain: 0, protected: 0};
  for (const s of services) for (const state in sum) sum[state] += s.states[state];
  return sum;
}

// stateText returns what BackendCounts.String of the daemon does: "12/12 down (6 in use)".
export function stateText(n) {
  const worst = n.down ? 'down' : n.drain ? 'drain' : 'up';
  const note = [n.protected ? `${n.protected} in use` : '', n.down && n.drain ? `${n.drain} drain` : ''].filter(Boolean).join(', ');
  return `${n[worst]}/${n.total} ${worst}` + (note ? ` (${note})` : '');
}

const ORDINARY = {cps: 0, packetsIn: 0, packetsOut: 0, bitsIn: 0, bitsOut: 0};
const COUNTERS = {cps: ['connections', 1], packetsIn: ['packets', 1], packetsOut: ['packets_out', 1],
  bitsIn: ['bytes', 8], bitsOut: ['bytes_out', 8]};

function perSecond(before, now, seconds) {
  return before === undefined || now < before || seconds <= 0 ? 0 : (now - before) / seconds;
}

function rate(before, now, seconds) {
  if (!before) return ORDINARY;
  const out = {};
  for (const [name, [field, factor]] of Object.entries(COUNTERS)) {
    out[name] = factor * perSecond(before[field], now[field], seconds);
  }
  return out;
}

// A snapshot is one answer: the time of the request (ms), services, stats, and what needs attention.
// compare returns the figures of now; before is null after a start or a restart of the daemon.
export function compare(before, now) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const known = new Map();
  for (const s of before ? before.services : []) {
    known.set(s.name, s);
    for (const b of s.backends) known.set(s.name + ' ' + endpoint(b), b);
  }
  const rates = new Map();
  const sum = {...ORDINARY};
  for (const s of now.services) {
    const r = rate(known.get(s.name), s, seconds);
    rates.set(s.name, r);
    for (const name in sum) sum[name] += r[name];
    for (const b of s.backends) {
      const id = s.name + ' ' + endpoint(b);
      rates.set(id, rate(known.get(id), b, seconds));
    }
  }
  const was = before ? before.stats : null, is = now.stats;
  const growth = field => perSecond(was?.[field], is[field], seconds);
  const drops = Object.entries(is.drops)
    .map(([name, total]) => ({name, total, rate: perSecond(was?.drops[name], total, seconds)}))
    .filter(d => d.total > 0)
    .sort((a, b) => b.rate - a.rate || b.total - a.total || a.name.localeCompare(b.name));
  return {
    measured: before !== null, // else there are no rates yet
    rates, sum, drops,
    received: growth('rx'), forwarded: growth('forwarded'), replied: growth('replied'), toKernel: growth('to_kernel'),
    dropped: drops.reduce((n, d) => n + d.rate, 0),
    connections: is.tables.connections_v4 + is.tables.connections_v6,
    busy: (is.workers ?? []).map((w, i) => busy(w, was?.workers?.[i])),
  };
}

// busy returns a worker's busy portion of the time between two snapshots.
function busy(now, before) {
  const elapsed = before ? now.run_s - before.run_s : 0;
  const share = elapsed > 0 ? (now.busy_s - before.busy_s) / elapsed : now.busy_share;
  return Math.min(1, Math.max(0, share));
}

// si formats a number with three digits and a prefix: 0, 0.4, 12, 999, 1.20k, 35.1M.
export function si(n) {
  if (!(n >= 0.05)) return '0';
  if (n < 9.95 && n !== Math.trunc(n)) return n.toFixed(1);
  if (n < 999.5) return n.toFixed(0);
  for (const prefix of 'kMGTPE') {
    n /= 1000;
    if (n < 9.995) return n.toFixed(2) + prefix;
    if (n < 99.95) return n.toFixed(1) + prefix;
    if (n < 999.5) return n.toFixed(0) + prefix;
  }
  return 'much';
}

// bits formats a rate: "180 Mbit/s".
export function bits(n) {
  return si(n).replace(/^([\d.]+)/, '$1 ') + 'bit/s';
}

// ago formats seconds in the two largest units; '' for an unknown time.
export function ago(seconds) {
  if (!(seconds >= 0) || seconds > 100 * 365 * 86400) return '';
  const s = Math.floor(seconds), two = n => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
}

export function count(n, one, many) {
  return `${n} ${n === 1 ? one : many}`;
}
