// Changes of the running daemon: each asks for confirmation and needs the token.
import {el, say, show} from './dom.js';
import {endpoint, acceptsNew} from './model.js';
import {setWeight, override, token} from './daemon.js';

const MAX_WEIGHT = 65535;

// Actions has the only dialog of the page. It calls done after a change, and changedToken after the token may have
// changed.
export class Actions {
  constructor({done, changedToken}) {
    Object.assign(this, {done, changedToken});
    this.title = el('h2', {id: 'dialog-title'});
    this.text = el('p');
    this.weightInput = el('input', {type: 'number', min: 0, max: MAX_WEIGHT, step: 1, required: '', inputmode: 'numeric', id: 'weight'});
    this.weightLabel = el('label', {text: 'Weight '}, this.weightInput);
    this.tokenInput = el('input', {type: 'password', autocomplete: 'off', spellcheck: 'false', id: 'token'});
    this.tokenLabel = el('label', {text: 'Token, the content of [api] token_file '}, this.tokenInput);
    this.failure = el('p', {class: 'failure', role: 'alert'});
    this.go = el('button', {type: 'submit', class: 'primary'});
    this.form = el('form', {onsubmit: event => { event.preventDefault(); this.submit(); }},
      this.title, this.text, this.weightLabel, this.tokenLabel, this.failure,
      el('div', {class: 'buttons'}, el('button', {type: 'button', text: 'Cancel', onclick: () => this.dialog.close()}), this.go));
    this.dialog = el('dialog', {'aria-labelledby': 'dialog-title'}, this.form);
    document.body.append(this.dialog);
  }

  open({title, text, go, weight, needsToken, act}) {
    say(this.title, title);
    say(this.text, text);
    say(this.go, go);
    say(this.failure, '');
    show(this.weightLabel, weight !== undefined);
    this.weightInput.disabled = weight === undefined;
    this.weightInput.value = weight ?? '';
    show(this.tokenLabel, needsToken);
    this.tokenInput.value = '';
    this.act = act;
    this.dialog.showModal();
    (weight !== undefined ? this.weightInput : needsToken ? this.tokenInput : this.go).focus();
  }

  async submit() {
    if (!this.tokenLabel.hidden) token.set(this.tokenInput.value.trim());
    this.go.disabled = true;
    try {
      await this.act();
      this.dialog.close();
    } catch (refusal) {
      say(this.failure, refusal.message);
      if (refusal.status === 401) token.set('');
      show(this.tokenLabel, refusal.status === 401);
      if (refusal.status === 401) {
        this.tokenInput.value = '';
        this.tokenInput.focus();
      }
    } finally {
      this.go.disabled = false;
      this.changedToken();
    }
  }

  run(service, backend, question, act) {
    const id = endpoint(backend);
    this.open({...question, needsToken: !token.get(), act: async () => {
      const now = await act(service.name, id);
      this.done(`${id} of ${service.name}: weight ${now.weight}, state ${now.state_name}${now.note ? ': ' + now.note : ''}`);
    }});
  }

  drain(service, backend) {
    const last = acceptsNew(backend) && service.backends.filter(acceptsNew).length === 1;
    const text = `Its ${backend.active} active connections continue; it gets no new ones.` +
      (last ? ` It is the last backend of ${service.name} that takes new connections.` : '');
    this.run(service, backend, {title: `Drain ${endpoint(backend)} of ${service.name}?`, text, go: last ? 'Drain the last backend' : 'Drain'},
      (name, id) => override(name, id, 'drain'));
  }

  enable(service, backend) {
    const undo = backend.configured_weight > 0; // else the file itself drains it
    this.run(service, backend, {title: `Enable ${endpoint(backend)} of ${service.name}?`,
      text: 'It takes new connections again' + (undo ? '.' : ', with weight 1; the file has 0.'), go: 'Enable'},
    (name, id) => undo ? override(name, id, 'enable') : setWeight(name, id, 1));
  }

  weight(service, backend) {
    this.run(service, backend, {title: `Weight of ${endpoint(backend)} of ${service.name}`,
      text: `The weight in the file is ${backend.configured_weight}. 0 drains.`, go: 'Set', weight: backend.weight}, 
      (name, id) => setWeight(name, id, Number(this.weightInput.value)));
  }

  // askToken asks for the token before an action needs it.
  askToken(text) {
    this.open({title: 'Token', text, go: 'Store until this tab closes', needsToken: true, act: async () => {}});
  }
}
