// Requests to the daemon that serves this page.

const TIMEOUT = 10_000; // ms
const KEY = 'sluice token';

// Refused is the daemon's refusal, with its text.
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// The token is stored as long as the tab is open.
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: value => value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY),
};

async function ask(path, options = {}) {
  const headers = {...options.headers};
  if (token.get()) headers.Authorization = 'Bearer ' + token.get();
  const answer = await fetch(path, {...options, headers, cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(TIMEOUT)});
  if (!answer.ok) {
    const {error} = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, error ?? `status ${answer.status}`);
  }
  const body = await answer.json();
  const {workers, applied} = JSON.parse(answer.headers.get('Sluice-Unresponsive') ?? '{}');
  if (applied) body.note = `applied, but not yet taken up by worker ${workers.join(', ')}`;
  return body;
}

// snapshot requests everything that the page shows.
export async function snapshot() {
  const at = Date.now();
  const [services, stats, state] = await Promise.all([ask('/v1/services'), ask('/v1/stats'), ask('/v1/status')]);
  return {at, services, stats, attention: state.attention};
}

export const reasons = () => ask('/page/reasons.json');

const post = (path, body) => ask(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});

// Both return the backend after the change.
export const setWeight = (service, backend, weight) => post('/v1/weight', {service, backend, weight});
export const override = (service, backend, state) => post('/v1/overrides', {service, backend, state});
