// What stands around the stage: title, state and time, a bar for each step, the facts, the buttons. Drawn anew from an entry whenever
// something changed; places are reserved, so that nothing jumps.

import { FINAL } from '/web/yoda-client.js';
import { ordinal, share, span, words } from '/web/jobs.js';

const $ = id => document.getElementById(id);
const MOST_BARS = 60;

const percent = x => `${(100 * x).toFixed(x > 0 && x < 0.1 ? 1 : 0)} %`;
const size = s => `${s.width} × ${s.height}`;
const bits = s => (s.bit_depth === 16 ? `${s.format.toUpperCase()}, 16 bits` : s.format.toUpperCase());

function stateText(entry, connection) {
  const job = entry.job;
  if (entry.bad) return 'Refused';
  if (connection === 'lost' && !(job && FINAL.has(job.state))) return 'Connection lost, trying again';
  if (job?.state === 'queued' && job.queue) return job.queue.position > 1 ? `${ordinal(job.queue.position)} in line` : 'Next in line';
  if (job?.state === 'succeeded') return job.cached ? 'Done: it had been computed before' : 'Done';
  return words(entry).replace(/^./, c => c.toUpperCase());
}

function timeText(entry) {
  const job = entry.job;
  if (!job) return '';
  if (FINAL.has(job.state)) {
    const s = job.started && job.finished ? (Date.parse(job.finished) - Date.parse(job.started)) / 1000 : 0;
    return job.state === 'succeeded' && s ? `in ${span(s)}` : '';
  }
  return job.queue?.eta_s ? `about ${span(job.queue.eta_s)} left` : '';
}

// A bar a step, as high as the share of pixels that it refines.
function showSteps(entry) {
  const box = $('progress'), steps = entry.job?.progress.steps || 0, bars = Math.min(steps, MOST_BARS) || 1;
  while (box.children.length > bars) box.lastChild.remove();
  while (box.children.length < bars) box.append(document.createElement('i'));
  const done = entry.job?.progress.step || 0, finished = entry.job?.state === 'succeeded';
  [...box.children].forEach((bar, i) => {
    const step = Math.ceil((i + 1) * steps / bars), known = entry.shares[step];
    bar.style.setProperty('--share', known ?? (finished ? 1 : 0));
    bar.className = finished || step <= done ? 'done' : step === done + 1 && entry.job?.state === 'running' ? 'now' : '';
  });
  const now = Math.round(100 * share(entry));
  box.setAttribute('aria-valuenow', now);
  box.setAttribute('aria-valuetext', entry.job ? words(entry) : 'nothing to do');
}

function factRows(entry) {
  const job = entry.job;
  if (!job) return [];
  const s = job.settings, p = job.progress, rows = [];
  rows.push(['From', `${size(job.input)}, ${bits(job.input)}`], ['To', `${size(job.output)}, ${bits(job.output)}`]);
  rows.push(['Model', job.model], ['Quality', `${s.quality}, ${s.steps} steps`], ['Attention', s.attention === 'constant' ? 'constant: every pixel alike' : `${s.attention}, bound ${s.lower_bound}`]);
  if (s.fidelity) rows.push(['Fidelity', s.fidelity]);
  const now = entry.shares[p.step];
  if (job.state === 'running' && now !== undefined) rows.push(['Refining now', `${percent(now)} of the pixels`]);
  if (p.windows_total && s.attention !== 'constant') rows.push(['Work left out', percent(p.windows_skipped / p.windows_total)]);
  if (job.invented) {
    rows.push(['Invented', `${percent(job.invented.changed_share)} of the pixels`], ['Contradicts', `${percent(job.invented.contradicted_share)} of the original`]);
  }
  if (job.resumed) rows.push(['Restarts survived', job.resumed]);
  return rows;
}

function showFacts(entry) {
  const rows = entry ? factRows(entry) : [];
  const text = JSON.stringify(rows);
  if ($('facts').dataset.shown === text) return;
  $('facts').dataset.shown = text;
  $('facts').replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement('dt'), said = document.createElement('dd');
    term.textContent = name;
    said.textContent = value;
    return [term, said];
  }));
}

function problemText(entry) {
  if (entry.bad) return entry.detail || '';
  const problem = entry.job?.problem;
  return problem && entry.job.state === 'failed' ? `${problem.title}: ${problem.detail}` : '';
}

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

/**
 * @param {import('/web/jobs.js').Entry|null} entry what is looked at
 * @param {{connection: string, hasSource: boolean, hasResult: boolean}} view
 */
export function showPanel(entry, { connection, hasSource, hasMask }) {
  const job = entry?.job, over = job && FINAL.has(job.state);
  set($('title'), entry ? entry.name : 'No picture yet');
  set($('sizes'), job ? `${size(job.input)} → ${size(job.output)}` : '');
  set($('state'), entry ? stateText(entry, connection) : 'Ready');
  set($('eta'), entry ? timeText(entry) : '');
  set($('problem'), entry ? problemText(entry) : '');
  showSteps(entry || { shares: [], job: null });
  showFacts(entry);
  $('cancel').hidden = !entry || over || entry.bad;
  $('remove').hidden = !entry || !(over || entry.bad);
  $('again').hidden = !over || !hasSource;
  $('download').hidden = job?.state !== 'succeeded';
  for (const id of ['zoom-in', 'zoom-out', 'zoom-fit']) $(id).disabled = !job;
  $('show-mask').disabled = !hasMask;
  $('scrub').max = job?.settings.steps || 1;
  $('scrub').parentElement.classList.toggle('shown', !!over && hasMask && $('show-mask').getAttribute('aria-pressed') === 'true');
}

/** What the tab is called. @param {import('/web/jobs.js').Entry[]} entries */
export function tabTitle(entries) {
  const busy = entries.filter(e => !e.bad && !(e.job && FINAL.has(e.job.state)));
  if (!busy.length) return 'yodad';
  const part = busy.reduce((sum, e) => sum + share(e), 0) / busy.length;
  return `${Math.round(100 * part)} % · ${busy.length === 1 ? busy[0].name : busy.length + ' pictures'}`;
}
