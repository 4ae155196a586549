// The form of settings: filled from /v1/capabilities and /v1/models, remembered in this browser. A field that is left alone is not sent,
// so that the model's own value counts; its placeholder says what that is.

const STORE = 'yoda-settings';
const $ = id => document.getElementById(id);

// The folded ones: name, label, and either what is offered or the range. {} as third: a text field for the server to judge.
const ADVANCED = [
  ['steps', 'Steps', { min: 1, max: 1000, step: 1 }],
  ['lower_bound', 'Lower bound', { min: 0, max: 1, step: 0.05 }],
  ['allocation', 'Allocation', ['late', 'strided', 'windows']],
  ['mask_form', 'Mask form', ['add', 'max']],
  ['sampler', 'Sampler', ['ddim', 'dpmpp_2m', 'ancestral']],
  ['spacing', 'Spacing', { min: 0.25, max: 8, step: 0.25 }],
  ['eta', 'Eta', { min: 0, max: 1, step: 0.1 }],
  ['seed', 'Seed', {}],
  ['dtype', 'Precision', []],
  ['priority', 'Priority', ['low', 'normal', 'high']],
  ['format', 'Format', []],
  ['encode_quality', 'File quality', { min: 1, max: 100, step: 1 }],
  ['bit_depth', 'Bits', ['source', '8', '16']],
  ['metadata', 'Metadata', ['keep', 'strip-gps', 'strip']],
  ['color_space', 'Colours', ['source', 'srgb']],
];

let models = [], capabilities = null;

function options(select, values, own) {
  const before = select.value;
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value)));
  if (own !== undefined) select.prepend(new Option(own, ''));
  select.value = values.some(([value]) => value === before) ? before : select.options[0]?.value ?? '';
}

function makeAdvanced() {
  for (const [name, label, kind] of ADVANCED) {
    const field = document.createElement('div'), input = document.createElement(Array.isArray(kind) ? 'select' : 'input');
    const caption = document.createElement('label');
    field.className = 'field';
    input.id = input.name = name;
    caption.htmlFor = name;
    caption.textContent = label;
    if (!Array.isArray(kind)) {
      input.type = kind.max ? 'number' : 'text';
      Object.assign(input, kind);
      input.autocomplete = 'off';
    }
    field.append(caption, input);
    $('advanced-fields').append(field);
  }
}

function makeQualities(names) {
  const chosen = quality();
  for (const old of $('quality').querySelectorAll('label')) old.remove();
  for (const name of names) {
    const label = document.createElement('label'), input = document.createElement('input');
    input.type = 'radio';
    input.name = 'quality';
    input.value = name;
    input.checked = name === (names.includes(chosen) ? chosen : 'balanced');
    const text = document.createElement('span');
    text.textContent = name[0].toUpperCase() + name.slice(1);
    label.append(input, text);
    $('quality').append(label);
  }
}

function quality() { return new FormData($('settings')).get('quality') || 'balanced'; }
function chosenModel() { return models.find(m => m.name === $('model').value) || models[0]; }

// What stands where nothing is typed follows model and quality.
function showDefaults() {
  const model = chosenModel(), own = { ...capabilities.defaults, ...model?.profiles[quality()] };
  for (const [name, , kind] of ADVANCED) {
    if (!Array.isArray(kind)) { $(name).placeholder = own[name] ?? ''; continue; }
    const offered = { dtype: capabilities.dtypes, format: capabilities.formats.output }[name] || kind;
    const word = own[name] === 0 ? 'source' : own[name];
    options($(name), offered.map(v => [v, v]), word ? `own (${word})` : 'own');
  }
  options($('attention'), capabilities.attention.map(a => [a.name, a.name[0].toUpperCase() + a.name.slice(1)]), `Model’s own (${own.attention})`);
  $('attention-hint').textContent = capabilities.attention.find(a => a.name === ($('attention').value || own.attention))?.summary.replace(/^./, c => c.toUpperCase()) || '';
  const fidelity = model?.prediction !== 'eps';
  $('fidelity-field').hidden = !fidelity;
  $('fidelity').disabled = !fidelity;
  if (!$('fidelity').dataset.touched) $('fidelity').value = own.fidelity ?? 0;
  $('fidelity-value').textContent = Number($('fidelity').value).toFixed(2);
}

function showScales() {
  const native = chosenModel()?.scale || 4;
  options($('scale'), [1.5, 2, 3, 4, 6, 8].filter(s => s !== native).map(s => [String(s), `${s} ×`]), `${native} ×`);
}

/** The settings to submit a picture with. */
export function chosen() {
  const out = { report: 'true', preview_every: 1 };
  for (const [name, value] of new FormData($('settings'))) if (value !== '') out[name] = value;
  if (!$('fidelity').dataset.touched) delete out.fidelity;
  if (out.model === capabilities?.defaults.model) delete out.model;
  return out;
}

function save() {
  const kept = { ...chosen(), advanced: $('advanced').open };
  delete kept.report;
  delete kept.preview_every;
  try { localStorage.setItem(STORE, JSON.stringify(kept)); } catch { /* not remembered, then */ }
}

function restore() {
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(STORE) || '{}'); } catch { /* as new */ }
  const form = $('settings').elements;
  $('advanced').open = !!kept.advanced;
  for (const [name, value] of Object.entries(kept)) {
    const field = form[name];
    if (!field || name === 'advanced' || field.disabled) continue;
    if (name === 'fidelity') field.dataset.touched = '1';
    const before = field.value;
    field.value = value;
    if (field.value === '' && before !== undefined) field.value = before; // no longer offered
  }
}

/** Fill the form. Call once, and again when the server has changed. @param {Object} caps @param {Object[]} resident */
export function fill(caps, resident) {
  const first = !capabilities;
  capabilities = caps;
  models = resident;
  if (first) makeAdvanced();
  options($('model'), models.map(m => [m.name, `${m.name}, ${m.scale} ×`]));
  makeQualities(Object.keys(chosenModel()?.profiles || { balanced: 1 }));
  showScales();
  showDefaults();
  if (!first) return;
  restore();
  showScales();
  showDefaults();
  $('settings').addEventListener('input', e => {
    if (e.target.id === 'fidelity') e.target.dataset.touched = '1';
    if (e.target.id === 'model') showScales();
    showDefaults();
    save();
  });
  $('settings').addEventListener('submit', e => e.preventDefault());
  $('advanced').addEventListener('toggle', save);
  $('reset').addEventListener('click', () => {
    $('settings').reset();
    delete $('fidelity').dataset.touched;
    makeQualities(Object.keys(chosenModel()?.profiles || { balanced: 1 }));
    for (const select of $('settings').querySelectorAll('select')) select.selectedIndex = 0;
    showDefaults();
    save();
  });
}
